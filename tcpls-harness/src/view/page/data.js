// The data of the page: a description as JSON, and columns of numbers as LEB128 in base64.

const trace = JSON.parse(byId("description").textContent);

function bytesOf(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) bytes[at] = raw.charCodeAt(at);
  return bytes;
}

/** Decodes the numbers of one column. */
function decode(bytes, place, Type) {
  const numbers = new Type(place.count);
  let at = place.start, last = 0;
  for (let number = 0; number < place.count; number++) {
    let byte = bytes[at++], value = byte & 127;
    for (let factor = 128; byte > 127; factor *= 128) {
      byte = bytes[at++];
      value += (byte & 127) * factor;
    }
    if (place.ascending) value = last += value;
    numbers[number] = value;
  }
  return numbers;
}

/** Columns whose numbers are small; the others have up to 2^53. */
const SMALL = {
  end: Uint16Array, kind: Uint8Array, text: Uint32Array,
  "piece-event": Uint32Array, "piece-why": Uint8Array,
};

/** Columns by name. `tcp`, `a`, `b`, `c` and `text` are one more than the number, or 0 if there is none. */
const columns = (() => {
  const bytes = bytesOf(byId("data").textContent);
  const of = (place) => [place.name, decode(bytes, place, SMALL[place.name] ?? Float64Array)];
  return Object.fromEntries(trace.columns.map(of));
})();
byId("data").remove();

const eventCount = columns.t.length;
const pieceCount = columns["piece-event"].length;
const KIND = Object.fromEntries(trace.kinds.map(([name], number) => [name, number]));
const OTHER_KIND = trace.kinds.length;

/** The value of a column that may be absent. */
const option = (column, event) => (column[event] === 0 ? null : column[event] - 1);
const tcpOf = (event) => option(columns.tcp, event);
const textOf = (event) => (columns.text[event] === 0 ? null : trace.texts[columns.text[event] - 1]);
const kindOf = (event) => (columns.kind[event] === OTHER_KIND ? (textOf(event) ?? "unknown") : trace.kinds[columns.kind[event]][0]);
const groupOf = (event) => (columns.kind[event] === OTHER_KIND ? "application" : trace.kinds[columns.kind[event]][1]);

/** The first place in sorted numbers, from `low` on, with at least `value`. */
function lowerBound(numbers, value, low = 0, high = numbers.length) {
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (numbers[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
