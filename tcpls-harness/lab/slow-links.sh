#!/usr/bin/env bash
# Downloads over slow links: TCPLS, and TLS over one TCP connection, from the same server.
#
#   sudo tcpls-harness/lab/slow-links.sh KBIT BYTES [PATHS] [TCPLS-COMMAND]
#
# Makes two network namespaces with PATHS links between them, each shaped to KBIT kbit/s in both directions by a token bucket
# with a queue of 4 s. Prints the seconds that each download took, or what went wrong.
set -euo pipefail

kbit=$1 bytes=$2 paths=${3:-1} tcpls=${4:-target/debug/tcpls}
server=slow-server-$$ client=slow-client-$$
directory=$(mktemp -d)
queue=$((kbit * 1000 / 8 * 4))
[ "$queue" -ge 4000 ] || queue=4000

clean_up() {
    [ -z "${serving:-}" ] || kill "$serving" 2>/dev/null || true
    ip netns del "$server" 2>/dev/null || true
    ip netns del "$client" 2>/dev/null || true
    rm -rf "$directory"
}
trap clean_up EXIT

# Brings up one end of a link: namespace, device, address.
shape() {
    ip -n "$1" addr add "$3/24" dev "$2"
    ip -n "$1" link set "$2" up gso_max_segs 1
    ip netns exec "$1" tc qdisc add dev "$2" root tbf rate "${kbit}kbit" burst 1600 limit "$queue"
}

ip netns add "$server"
ip netns add "$client"
listen=() connect=()
for path in $(seq "$paths"); do
    ip link add "s$path" netns "$server" type veth peer name "c$path" netns "$client"
    shape "$server" "s$path" "10.77.$path.1"
    shape "$client" "c$path" "10.77.$path.2"
    listen+=(--listen "10.77.$path.1:4433")
    connect+=(--connect "10.77.$path.1:4433")
done

mkdir "$directory/root" "$directory/out"
head -c "$bytes" /dev/urandom >"$directory/root/file"
XDG_STATE_HOME="$directory" ip netns exec "$server" "$tcpls" serve "${listen[@]}" --root "$directory/root" --ca-out "$directory/ca.pem" \
    >"$directory/serve.log" 2>&1 &
serving=$!
until [ -s "$directory/ca.pem" ]; do sleep 0.1; done

seconds_since() { echo "$(date +%s.%N) - $1" | bc; }

began=$(date +%s.%N)
ip netns exec "$client" timeout 600 "$tcpls" get "${connect[@]}" --ca "$directory/ca.pem" -o "$directory/out" \
    https://localhost/file >"$directory/get.log" 2>&1 || true
took=$(seconds_since "$began")
if cmp -s "$directory/root/file" "$directory/out/file"; then
    echo "$kbit kbit/s, $bytes bytes, $paths path(s), TCPLS: $took s"
else
    echo "$kbit kbit/s, $bytes bytes, $paths path(s), TCPLS: not whole after $took s"
    cat "$directory/get.log" "$directory/serve.log"
fi

began=$(date +%s.%N)
ip netns exec "$client" timeout 600 python3 - "$directory/ca.pem" "$bytes" <<'PYTHON'
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
sock = context.wrap_socket(socket.create_connection(("10.77.1.1", 4433)), server_hostname="localhost")
sock.sendall(b"GET /file\r\n")
got = 0
while got < int(sys.argv[2]):
    piece = sock.recv(65536)
    if not piece:
        sys.exit(f"TLS: not whole, {got} bytes")
    got += len(piece)
PYTHON
echo "$kbit kbit/s, $bytes bytes, one path, TLS: $(seconds_since "$began") s"
