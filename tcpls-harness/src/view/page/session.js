// What the rows show of one session: series of numbers for each TCP connection, and pieces of streams.

const SENT = 0, RECEIVED = 1;

/** Points in time with a number each. */
class Series {
  constructor() {
    this.t = [];
    this.value = [];
    this.event = [];
  }
  push(t, value, event) {
    this.t.push(t);
    this.value.push(value);
    this.event.push(event);
  }
  /** The number of the last point at `t` or before; -1 if there is none. */
  before(t) {
    return lowerBound(this.t, t + 1) - 1;
  }
  /** The largest value in a time range. */
  most(from, to) {
    let most = 0;
    for (let at = lowerBound(this.t, from), end = lowerBound(this.t, to); at < end; at++) most = Math.max(most, this.value[at]);
    return most;
  }
}

/** Like a series, with the sum of all values before each point: sums over any range of time take two look-ups. */
class Sums extends Series {
  constructor() {
    super();
    this.sum = [0];
  }
  push(t, value, event) {
    super.push(t, value, event);
    this.sum.push(this.sum[this.sum.length - 1] + value);
  }
  between(from, to) {
    const first = lowerBound(this.t, from);
    return this.sum[lowerBound(this.t, to, first)] - this.sum[first];
  }
  get total() {
    return this.sum[this.sum.length - 1];
  }
}

/** The pieces of streams that one end sent or received. */
class Pieces {
  constructor() {
    this.streams = new Map();
    this.byTcp = new Map();
    this.again = [0, 0, 0, 0, 0, 0];
    this.fresh = 0;
  }
  push(piece, t, tcp) {
    const stream = columns["piece-stream"][piece];
    if (!this.streams.has(stream)) this.streams.set(stream, { stream, t: [], tcp: [], piece: [], bytes: 0 });
    const flow = this.streams.get(stream);
    flow.t.push(t);
    flow.tcp.push(tcp);
    flow.piece.push(piece);
    const again = columns["piece-again"][piece], fresh = columns["piece-len"][piece] - again;
    flow.bytes += fresh;
    this.again[columns["piece-why"][piece]] += again;
    this.fresh += fresh;
    if (!this.byTcp.has(tcp)) this.byTcp.set(tcp, new Sums());
    this.byTcp.get(tcp).push(t, fresh, columns["piece-event"][piece]);
  }
  rateBetween(tcp, from, to) {
    return ((this.byTcp.get(tcp)?.between(from, to) ?? 0) * 8e9) / (to - from);
  }
}

/** A TCP connection as one end sees it. */
class Lane {
  constructor(tcp) {
    Object.assign(this, tcp);
    this.records = [new Sums(), new Sums()];
    this.acks = new Sums();
    this.rtt = new Series();
    this.flight = new Series();
  }
}

class Session {
  /** The session of this number, with lanes as end `seen` has them. */
  constructor(number, seen) {
    this.description = trace.sessions[number] ?? { ends: [], summary: [] };
    this.ends = this.description.ends;
    this.seen = this.ends.includes(seen) ? seen : this.busiest();
    this.lanes = new Map((trace.ends[this.seen]?.tcps ?? []).map((tcp) => [tcp.id, new Lane(tcp)]));
    this.tcps = [...new Set(this.ends.flatMap((end) => trace.ends[end].tcps.map((tcp) => tcp.id)))].sort((a, b) => a - b);
    this.pieces = new Map(this.ends.map((end) => [end, [new Pieces(), new Pieces()]]));
    this.readEvents();
    this.readPieces();
    this.ways = this.findWays();
  }

  /** The end that sent most data knows most: what is in flight, and what it sent again. */
  busiest() {
    const sent = (end) => trace.ends[end].fresh[SENT];
    return [...this.ends].sort((a, b) => sent(b) - sent(a))[0];
  }

  /** Whether an event belongs to this session, or to no other. */
  has(event) {
    const end = columns.end[event];
    return this.ends.includes(end) || trace.ends[end].session === null;
  }

  readEvents() {
    const { t, end, kind, a, b, c } = columns;
    const sent = KIND["record-sent"], received = KIND["record-received"];
    const earlySent = KIND["early-sent"], earlyReceived = KIND["early-received"];
    const acknowledged = KIND["acknowledged"], rtt = KIND["rtt-sample"], stalled = KIND["stalled"];
    for (let event = 0; event < eventCount; event++) {
      if (end[event] !== this.seen) continue;
      const lane = this.lanes.get(columns.tcp[event] - 1);
      if (lane === undefined) continue;
      switch (kind[event]) {
        case earlySent:
        case sent: lane.records[SENT].push(t[event], b[event] - 1, event); break;
        case earlyReceived:
        case received: lane.records[RECEIVED].push(t[event], b[event] - 1, event); break;
        case acknowledged:
          lane.acks.push(t[event], Math.max(0, b[event] - 1), event);
          if (c[event] > 0) lane.flight.push(t[event], c[event] - 1, event);
          break;
        case rtt: if (b[event] > 0) lane.rtt.push(t[event], b[event] - 1, event); break;
        case stalled: if (b[event] > 0) lane.flight.push(t[event], b[event] - 1, event); break;
      }
    }
  }

  readPieces() {
    const sent = [KIND["record-sent"], KIND["early-sent"]];
    for (let piece = 0; piece < pieceCount; piece++) {
      const event = columns["piece-event"][piece];
      const of = this.pieces.get(columns.end[event]);
      if (of === undefined) continue;
      const way = sent.includes(columns.kind[event]) ? SENT : RECEIVED;
      of[way].push(piece, columns.t[event], columns.tcp[event] - 1);
    }
  }

  /** The directions in which there was data, with what goodput and streams are drawn from, the larger first. */
  findWays() {
    const at = (side) => this.ends.find((end) => trace.ends[end].side === side);
    const take = (end, way) => {
      const pieces = end === undefined ? undefined : this.pieces.get(end)[way];
      return pieces && pieces.fresh > 0 ? { pieces, end, way } : undefined;
    };
    const between = (name, sender, receiver) => {
      const sent = take(sender, SENT), received = take(receiver, RECEIVED);
      // New bytes count where they arrive; only the sender knows why bytes go out again.
      return { name, goodput: received ?? sent, ranges: sent ?? received };
    };
    const unknown = this.ends.filter((end) => trace.ends[end].side === null);
    const ways = [
      between("from server to client", at("server"), at("client")),
      between("from client to server", at("client"), at("server")),
      ...unknown.flatMap((end) => [between("received", undefined, end), between("sent", end, undefined)]),
    ];
    return ways.filter((way) => way.goodput).sort((a, b) => b.goodput.pieces.fresh - a.goodput.pieces.fresh);
  }
}
