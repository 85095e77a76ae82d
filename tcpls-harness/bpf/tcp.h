/* SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0 */
/*
 * What a congestion control needs of the kernel's types: the fields that it uses and no others. The loader finds their
 * offsets in the running kernel (CO-RE), so that one object works with all kernels that have these fields.
 */
#ifndef TCPLS_BPF_TCP_H
#define TCPLS_BPF_TCP_H

typedef unsigned char __u8;
typedef unsigned int __u32;
typedef unsigned long long __u64;

#define SEC(name) __attribute__((section(name), used))
#define KFUNC extern __attribute__((section(".ksyms")))

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct sock {
};

struct tcp_sock {
	__u32 snd_cwnd;
	__u32 snd_ssthresh;
	__u32 max_packets_out;
};

struct tcp_congestion_ops {
	__u32 (*ssthresh)(struct sock *sk);
	void (*cong_avoid)(struct sock *sk, __u32 ack, __u32 acked);
	__u32 (*undo_cwnd)(struct sock *sk);
	void (*init)(struct sock *sk);
	char name[16];
	__u32 flags;
};

#pragma clang attribute pop

/* Functions of the kernel that congestion controls may call. */
KFUNC __u32 tcp_slow_start(struct tcp_sock *tp, __u32 acked);
KFUNC void tcp_cong_avoid_ai(struct tcp_sock *tp, __u32 w, __u32 acked);
KFUNC __u32 tcp_reno_undo_cwnd(struct sock *sk);

#endif
