// Numbers and names, as people read them. The command has the same units.

/** Bytes as `1.5 MiB`. */
function size(bytes) {
  let value = bytes, unit = "B";
  for (const next of ["KiB", "MiB", "GiB", "TiB"]) {
    if (value < 1024) break;
    [value, unit] = [value / 1024, next];
  }
  return unit === "B" ? `${bytes} B` : `${value.toFixed(1)} ${unit}`;
}

/** Bits per second as `1.5 Mbit/s`. */
function rate(bits) {
  if (bits >= 1e9) return `${(bits / 1e9).toFixed(2)} Gbit/s`;
  if (bits >= 1e6) return `${(bits / 1e6).toFixed(1)} Mbit/s`;
  return `${(bits / 1e3).toFixed(1)} kbit/s`;
}

/** Nanoseconds as `12.3 ms`. */
function duration(ns) {
  if (ns < 1e6) return `${Math.floor(ns / 1e3)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(1)} ms`;
  return `${(ns / 1e9).toFixed(2)} s`;
}

/** A moment in seconds; the longer the trace is stretched, the more digits. */
function moment(ns, span = 1e9) {
  const digits = Math.min(9, Math.max(3, Math.ceil(11 - Math.log10(Math.max(span, 1)))));
  return `${(ns / 1e9).toFixed(digits)} s`;
}

/** A number with separators, as `12,345`. */
const count = (number) => number.toLocaleString("en-US");

/** Bytes `from` to `to` of a stream. */
const range = (from, to) => `${count(from)} to ${count(to)}`;

const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

/** Creates an element with properties and children. */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const byId = (id) => document.getElementById(id);
