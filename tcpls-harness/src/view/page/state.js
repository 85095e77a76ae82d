// The state of one end of a session after an event, from the events before it.

/** A copy of the state is kept after this number of events. */
const KEEP_EVERY = 50_000;

class States {
  constructor(end) {
    this.end = end;
    this.kept = [{ next: 0, state: States.initial(end) }];
    this.last = this.kept[0];
  }

  static initial(end) {
    return { session: States.before(end), closed: null, generation: 0, tcps: new Map(), streams: new Map() };
  }

  /** The state of the session when the trace begins, which may be in the middle; null if nothing tells. */
  static before(end) {
    const changed = KIND["state-changed"];
    const first = columns.kind.findIndex((kind, event) => kind === changed && columns.end[event] === end);
    return first < 0 ? null : (textOf(first)?.split(" → ")[0] ?? null);
  }

  /** The state after `event`. */
  after(event) {
    const from = this.last.next <= event + 1 ? this.last : this.keptBefore(event);
    const state = structuredClone(from.state);
    let next = from.next;
    for (; next <= event; next++) {
      if (columns.end[next] === this.end) this.apply(state, next);
      const newest = this.kept[this.kept.length - 1];
      if (next - newest.next >= KEEP_EVERY) this.kept.push({ next: next + 1, state: structuredClone(state) });
    }
    this.last = { next, state };
    return state;
  }

  keptBefore(event) {
    return this.kept.findLast((kept) => kept.next <= event + 1) ?? this.kept[0];
  }

  apply(state, event) {
    const kind = kindOf(event), number = tcpOf(event), text = textOf(event);
    const [a, b, c] = [option(columns.a, event), option(columns.b, event), option(columns.c, event)];
    switch (kind) {
      case "state-changed": state.session = text?.split(" → ")[1] ?? state.session; break;
      case "closed": state.closed = text; break;
      case "key-update-started": state.generation = a; break;
      case "claim-made": return; // any TCP connection may be claimed
    }
    if (number === null) return;
    if (!state.tcps.has(number)) state.tcps.set(number, {
      phase: "joining", stalled: false, backup: false, lane: false, rtt: null, rate: null, flight: null,
      sent: null, received: null, acknowledged: null, bytes: [0, 0],
    });
    const tcp = state.tcps.get(number);
    switch (kind) {
      case "joined": tcp.phase = "in use"; break;
      case "join-started": tcp.backup = b === 1; tcp.lane = c === 1; break;
      case "lane-declared": tcp.lane = true; break;
      case "status-changed": tcp.backup = a === 1; break;
      case "stalled": tcp.stalled = true; tcp.flight = b; break;
      case "resumed": tcp.stalled = false; break;
      case "retiring": tcp.phase = "retiring"; break;
      case "lost": tcp.phase = `lost: ${text}`; tcp.stalled = false; tcp.flight = null; break;
      case "discarded": if (!tcp.phase.startsWith("lost")) tcp.phase = "ended"; tcp.stalled = false; break;
      case "acknowledged":
        // A trace may begin after the join.
        if (tcp.phase === "joining") tcp.phase = "in use";
        tcp.acknowledged = a;
        tcp.flight = c;
        break;
      case "rtt-sample": tcp.rtt = b; break;
      case "rate-sample": tcp.rate = b; break;
      case "early-sent": this.carry(state, tcp, event, SENT, b); break;
      case "early-received": this.carry(state, tcp, event, RECEIVED, b); break;
      case "record-sent": tcp.sent = a; this.carry(state, tcp, event, SENT, b); break;
      case "record-received": tcp.received = a; this.carry(state, tcp, event, RECEIVED, b); break;
    }
  }

  carry(state, tcp, event, way, bytes) {
    tcp.bytes[way] += bytes ?? 0;
    const [first, end] = piecesOf(event);
    for (let piece = first; piece < end; piece++) {
      const stream = columns["piece-stream"][piece];
      if (!state.streams.has(stream)) state.streams.set(stream, [0, 0]);
      const last = columns["piece-start"][piece] + columns["piece-len"][piece];
      state.streams.get(stream)[way] = Math.max(state.streams.get(stream)[way], last);
    }
  }
}
