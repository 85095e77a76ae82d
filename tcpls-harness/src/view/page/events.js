// What an event means: `details` in `view/events.rs` says which numbers it has.

/** The groups of events that can be stepped through, and their names. */
const GROUPS = {
  "record": "records",
  "acknowledgment": "acknowledgments, samples",
  "decision": "decisions, timeouts",
  "tcp-connection": "TCP connections",
  "session": "session",
  "application": "applications",
  "network": "network",
};

/** Why bytes went out once more, by number, as `view/pieces.rs` has them. */
const WHY = ["new", "reinjected", "hedged", "redundant", "arrived before", "repeated"];
const WHY_LONG = [
  "for the first time",
  "again: the TCP connection that carried them was lost (reinjected)",
  "again: the TCP connection that carried them was stalled (hedged)",
  "again, on purpose (redundant)",
  "again: they had arrived before",
  "again: rejected as early data",
];

/** The pieces of a record: numbers from `first` to before `end`. */
function piecesOf(event) {
  const first = lowerBound(columns["piece-event"], event);
  return [first, lowerBound(columns["piece-event"], event + 1, first)];
}

function frameNames(mask) {
  // Masks have fewer bits than 32.
  return trace.frames.filter((_, bit) => mask & (1 << bit));
}

/** The title of an event, and its fields as pairs of name and value. */
function describe(event) {
  const kind = kindOf(event), tcp = tcpOf(event), text = textOf(event);
  const [a, b, c] = ["a", "b", "c"].map((name) => option(columns[name], event));
  const name = tcp === null ? "the session" : `TCP ${tcp}`;
  const yes = (flag) => (flag ? "yes" : "no");
  const of = (title, ...fields) => ({ title, fields: fields.filter(([, value]) => value !== null && value !== undefined) });
  const bytes = (number) => (number === null ? null : `${count(number)} B`);
  switch (kind) {
    case "early-sent":
    case "early-received":
    case "record-sent":
    case "record-received": {
      const verb = kind.endsWith("sent") ? "sent" : "received";
      const record = kind.startsWith("early") ? "Record of early data" : `Record ${a}`;
      const [first, end] = piecesOf(event);
      const parts = [];
      for (let piece = first; piece < end && parts.length < 8; piece++) {
        const start = columns["piece-start"][piece], why = columns["piece-why"][piece];
        const again = why > 0 ? `, ${WHY_LONG[why]}` : "";
        parts.push([`stream ${columns["piece-stream"][piece]}`, `bytes ${range(start, start + columns["piece-len"][piece])}${again}`]);
      }
      if (end - first > 8) parts.push(["and", `${end - first - 8} more ranges`]);
      const frames = frameNames(c ?? 0).join(", ");
      return of(`${record} ${verb} on ${name}`, ["size", bytes(b)], ["frames", frames || null], ["alert", text], ...parts);
    }
    case "early-rejected":
      return of("The server rejects early data, which is sent again", ["stream data", bytes(a)]);
    case "acknowledged":
      return of(`Records up to ${a} on ${name} are acknowledged`, ["newly acknowledged", bytes(b)], ["in flight", bytes(c)]);
    case "rtt-sample":
      return of(`Round-trip time of ${name}: ${duration(a)}`, ["smoothed", duration(b)], ["smallest", duration(c)]);
    case "rate-sample":
      return of(`Delivery rate of ${name}: ${rate(a * 8)}`, ["estimate", rate(b * 8)], ["the path could carry more", yes(c)]);
    case "scheduled":
      return of(`Scheduler: ${name} may ${text}`, ["not sent yet", bytes(a)]);
    case "timed-out":
      return of(`Deadline reached: ${text}`);
    case "join-started":
      return of(`${name} begins to join`, ["records follow the hello at once", yes(a)], ["as a backup", yes(b)], ["as a lane", yes(c)]);
    case "tcp-addresses":
      return of(`${name} has its addresses`, ["from", text]);
    case "claim-made":
      return of(`A TCP connection claims to be ${name}`, ["claim", a]);
    case "claim-accepted":
      return of(`The claim is accepted: it is ${name}`, ["claim", a]);
    case "claim-refused":
      return of("A claim is refused", ["claim", a], ["cause", text]);
    case "status-changed":
      return of(`The peer asks to use ${name} ${a ? "as a backup" : "like any other"}`);
    case "stalled":
      return of(`${name} is stalled`, ["an answer is due since", a === null ? null : moment(a)], ["in flight", bytes(b)]);
    case "hedged":
      return of(`Data of ${name} becomes pending on others, in case it is lost`, ["stream data", bytes(a)]);
    case "requeued":
      return of(`Data of ${name} becomes pending on others`, ["stream data", bytes(a)]);
    case "lost":
      return of(`${name} is lost`, ["cause", text]);
    case "key-update-started":
      return of("New keys for sending", ["generation", a]);
    case "key-update-sent":
      return of(`${name} sends with new keys from now on`, ["generation", a]);
    case "key-update-received":
      return of(`The peer sends with new keys on ${name}`, ["generation", a], ["asks for new keys here", yes(b)]);
    case "limit-reached":
      return of(`Limit reached: ${text}`);
    case "state-changed":
      return of(`The session changes its state: ${text}`);
    case "draining":
    case "peer-draining":
      return of(`${kind === "draining" ? "This end" : "The peer"} drains the session`, ["streams to serve", a]);
    case "closing":
    case "peer-closing":
      return of(`${kind === "closing" ? "This end" : "The peer"} closes the session`, ["error", text]);
    case "closed":
      return of("The session has ended", ["reason", text]);
    case "connect":
      return of("A TCP connection is dialed", ["path", b === null ? null : pathName(b)], ["socket", a]);
    case "accepted":
      return of("A TCP connection is accepted", ["socket", a]);
    case "attached":
      return of(`A socket belongs to ${name} from now on`, ["socket", a]);
    case "socket-end":
      return of(`The socket of ${name} ends`, ["how", text], ["socket", a]);
    case "stream-opened":
      return of(`Stream ${b} is opened`, ["transfer", a]);
    case "stream-read":
      return of("The application reads", ["data", bytes(b)], ["transfer", a]);
    case "stream-end":
      return of(`A stream ends for its reader: ${text}`, ["transfer", a]);
    case "fault":
      return of(`${a ? "End of a fault" : "Fault"}: ${text}`);
    case "killed":
      return of("A middlebox ends a TCP connection", ["why", text]);
    case "action":
      return of(`The application acts: ${text}`);
    case "events-lost":
      return of("Events are missing here: what wrote the trace could not keep up", ["events", a === null ? null : count(a)]);
    case "evicted":
      return of("A session gives way", ["for", text]);
    case "metric":
    case "note":
      return of(text ?? kind);
    default:
      return of(tcp === null ? kind.replaceAll("-", " ") : `${name}: ${kind.replaceAll("-", " ")}`);
  }
}

const pathName = (path) => trace.paths[path] ?? `number ${path}`;
const endName = (end) => trace.ends[end].who;
