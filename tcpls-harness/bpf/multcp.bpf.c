// SPDX-License-Identifier: GPL-2.0-only OR MIT OR Apache-2.0
/*
 * MulTCP: one TCP connection that takes the share of several (Crowcroft and Oechslin, 1998). It grows by one segment per
 * round trip for each of them, and a loss costs the window of half of one of them.
 */
#include "tcp.h"

/* How many: 1 is Reno. Zero counts as 1, and more than 64 as 64. */
const volatile __u32 flows = 4;

static __u32 shares(void)
{
	__u32 n = flows;

	return n == 0 ? 1 : n > 64 ? 64 : n;
}

SEC("struct_ops/multcp_init")
void multcp_init(__u64 *ctx)
{
}

/* The congestion window after a loss, in segments. */
SEC("struct_ops/multcp_ssthresh")
__u32 multcp_ssthresh(__u64 *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx[0];
	__u32 window = tp->snd_cwnd;
	__u32 rest = window - (window + 2 * shares() - 1) / (2 * shares());

	return rest < 2 ? 2 : rest;
}

SEC("struct_ops/multcp_cong_avoid")
void multcp_cong_avoid(__u64 *ctx)
{
	struct tcp_sock *tp = (struct tcp_sock *)ctx[0];
	__u32 acked = (__u32)ctx[2];
	__u32 per_segment;

	/* What the application left unused says nothing about the path. */
	if (tp->snd_cwnd >= 2 * tp->max_packets_out)
		return;
	if (tp->snd_cwnd < tp->snd_ssthresh) {
		acked = tcp_slow_start(tp, acked);
		if (!acked)
			return;
	}
	per_segment = tp->snd_cwnd / shares();
	tcp_cong_avoid_ai(tp, per_segment ? per_segment : 1, acked);
}

/* The congestion window when a loss turns out to be none. */
SEC("struct_ops/multcp_undo_cwnd")
__u32 multcp_undo_cwnd(__u64 *ctx)
{
	return tcp_reno_undo_cwnd((struct sock *)ctx[0]);
}

SEC(".struct_ops.link")
struct tcp_congestion_ops multcp = {
	.init = (void *)multcp_init,
	.ssthresh = (void *)multcp_ssthresh,
	.cong_avoid = (void *)multcp_cong_avoid,
	.undo_cwnd = (void *)multcp_undo_cwnd,
	.name = "multcp",
};

/* The kernel loads no congestion control without a licence that is compatible with the GPL. */
char _license[] SEC("license") = "Dual MIT/GPL";
