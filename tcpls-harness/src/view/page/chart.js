// The drawing surface: time range, rows, and what all rows have in common.

/** The space left and right of the plot; `Chart.draw` adapts it to the width. */
let GUTTER = 148, RIGHT = 82;
/** Browsers leave higher canvases blank: of a higher chart only the part in the window is drawn. */
const MOST_HEIGHT = 8000;
/** The same in pixels of the canvas, of which a screen may have several for each of the chart. */
const MOST_PIXELS = 32000;
/** The most pixels of a canvas altogether: some phones leave larger ones blank. */
const MOST_AREA = 16e6;
/** The width of a chart on paper, which its place there scales a little. */
const PAPER_WIDTH = 760;
const FONT = "12px system-ui, sans-serif", SMALL_FONT = "11px system-ui, sans-serif";

/** The colors of the style, as the canvas needs them. */
class Theme {
  constructor() {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(`--${name}`).trim();
    for (const name of ["page", "panel", "text", "muted", "line", "grid", "accent", "trouble", "recovery", "flight", "rtt", "select"]) this[name] = of(name);
    this.soft = of("trouble-soft");
    this.tcps = [0, 1, 2, 3, 4, 5].map((number) => of(`tcp-${number}`));
    this.isDark = document.documentElement.dataset.theme === "dark";
  }
  tcp(number) {
    return this.tcps[number % this.tcps.length];
  }
}

/** `#rrggbb` as a pixel of an image. */
function pixel(color, alpha = 255) {
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

class Chart {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.full = Math.max(trace.end, 1);
    this.from = 0;
    this.to = this.full;
    this.rows = [];
    this.selected = null;
    this.pointer = null;
    this.theme = new Theme();
    this.width = 1000;
    this.offset = 0;
    this.isOnPaper = false;
  }

  /** The shortest range of time that can be shown, in nanoseconds. */
  get shortest() {
    return Math.min(this.full, 1000);
  }
  get span() {
    return this.to - this.from;
  }
  get plotWidth() {
    return Math.max(50, this.width - GUTTER - RIGHT);
  }
  x(t) {
    return GUTTER + ((t - this.from) / this.span) * this.plotWidth;
  }
  t(x) {
    return this.from + ((x - GUTTER) / this.plotWidth) * this.span;
  }

  /** Shows a range of time, as far as there is one. */
  show(from, to) {
    const span = Math.min(this.full, Math.max(this.shortest, to - from));
    const start = Math.min(Math.max(0, from + (to - from - span) / 2), this.full - span);
    [this.from, this.to] = [start, start + span];
  }
  zoom(factor, t = (this.from + this.to) / 2) {
    this.show(t - (t - this.from) * factor, t + (this.to - t) * factor);
  }
  move(ns) {
    const by = Math.min(Math.max(ns, -this.from), this.full - this.to);
    this.show(this.from + by, this.to + by);
  }
  /** Moves the range so that `t` is in it. */
  reveal(t) {
    const margin = this.span * 0.05;
    if (t < this.from + margin || t > this.to - margin) this.move(t - (this.from + this.to) / 2);
  }

  /** Places rows below each other. The first `pinned` of them stay in sight. */
  setRows(rows, pinned) {
    this.rows = rows;
    this.pinned = rows.slice(0, pinned);
    let top = 0;
    for (const row of rows) {
      row.top = top;
      top += row.height;
    }
    this.height = top + 6;
    this.pinnedHeight = this.pinned.reduce((sum, row) => sum + row.height, 0);
  }
  rowAt(y) {
    return this.rows.find((row) => y >= row.top && y < row.top + row.height);
  }
  /** Whether there is little room. */
  get isNarrow() {
    return this.width < 620;
  }
  /** Whether the canvas shows only a part of the height. */
  get isTall() {
    const pixels = this.width * this.height * (window.devicePixelRatio || 1) ** 2;
    return this.height > MOST_HEIGHT || pixels > MOST_AREA;
  }
  /** The place in the chart of a place in the canvas. */
  inChart(y) {
    return this.isTall && y < this.pinnedHeight ? y : y + this.offset;
  }
  /** The rows that paper has room for. */
  get onPaper() {
    return this.rows.filter((row) => row.top + row.height <= MOST_HEIGHT);
  }

  /** Adapts the canvas to its place, and says how high it is. */
  fitCanvas() {
    const { canvas } = this, box = canvas.parentElement;
    this.width = this.isOnPaper ? PAPER_WIDTH : box.clientWidth;
    [GUTTER, RIGHT] = this.isNarrow ? [104, 78] : [148, 82];
    const isTall = this.isTall && !this.isOnPaper;
    const shown = isTall ? Math.min(this.height, innerHeight) : Math.min(this.height, MOST_HEIGHT);
    box.classList.toggle("tall", isTall);
    box.style.height = isTall ? `${this.height + 2}px` : "";
    this.offset = isTall ? Math.round(Math.min(this.height - shown, Math.max(0, -box.getBoundingClientRect().top))) : 0;
    const wanted = Math.max(this.isOnPaper ? 2 : 1, window.devicePixelRatio || 1);
    this.ratio = Math.min(wanted, MOST_PIXELS / shown, Math.sqrt(MOST_AREA / (this.width * shown)));
    const [width, height] = [Math.round(this.width * this.ratio), Math.round(shown * this.ratio)];
    if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
    canvas.style.height = `${shown}px`;
    return shown;
  }

  draw() {
    const { context, theme } = this;
    const shown = this.fitCanvas(), { ratio, offset } = this;
    const drawRow = (row) => {
      context.save();
      row.draw(context, this);
      context.restore();
    };
    context.setTransform(ratio, 0, 0, ratio, 0, -offset * ratio);
    context.fillStyle = theme.page;
    context.fillRect(0, offset, this.width, shown);
    const axis = this.rows.find((row) => row instanceof Axis);
    axis?.drawGrid(context, this);
    const free = this.rows.filter((row) => !this.pinned.includes(row) && row.top < offset + shown && row.top + row.height > offset);
    free.forEach(drawRow);
    this.drawLines(context);
    // In place of what has scrolled away.
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = theme.page;
    context.fillRect(0, 0, this.width, this.pinnedHeight);
    this.pinned.forEach(drawRow);
  }

  drawLines(context) {
    const line = (t, color, dashes) => {
      if (t < this.from || t > this.to) return;
      context.save();
      context.strokeStyle = color;
      context.setLineDash(dashes);
      context.beginPath();
      const x = Math.round(this.x(t)) + 0.5;
      context.moveTo(x, this.pinnedHeight);
      context.lineTo(x, this.height);
      context.stroke();
      context.restore();
    };
    if (this.pointer !== null) line(this.pointer, this.theme.muted, [3, 3]);
    if (this.selected !== null) line(columns.t[this.selected], this.theme.accent, []);
  }

  /** Limits drawing to the plot of a row. */
  clip(context, row) {
    context.beginPath();
    context.rect(GUTTER, row.top, this.plotWidth, row.height);
    context.clip();
  }

  /** The frame of a row: a line above it and its name on the left. */
  frame(context, row, title, lines = []) {
    const { theme } = this;
    context.fillStyle = theme.grid;
    context.fillRect(0, row.top, this.width, 1);
    context.textBaseline = "top";
    context.fillStyle = theme.text;
    context.font = `600 ${FONT}`;
    context.fillText(fit(context, title, GUTTER - 24), 12, row.top + 9);
    context.font = SMALL_FONT;
    context.fillStyle = theme.muted;
    lines.forEach((line, number) => context.fillText(fit(context, line, GUTTER - 20), 12, row.top + 26 + 15 * number));
  }

  /** A label at the right edge of the plot, for a scale. */
  scale(context, text, y, color = this.theme.muted) {
    context.font = SMALL_FONT;
    context.fillStyle = color;
    context.textBaseline = "middle";
    context.fillText(text, GUTTER + this.plotWidth + 6, y);
  }

  /** Diagonal lines over a part of a row. */
  hatch(context, row, from, to, color) {
    const [left, right] = [Math.max(GUTTER, this.x(from)), Math.min(GUTTER + this.plotWidth, Math.max(this.x(to), this.x(from) + 2))];
    if (right <= left) return;
    context.save();
    context.beginPath();
    context.rect(left, row.top + 1, right - left, row.height - 1);
    context.clip();
    context.strokeStyle = color;
    context.globalAlpha = 0.4;
    context.beginPath();
    for (let x = left - row.height - ((left - row.height) % 8); x < right; x += 8) {
      context.moveTo(x, row.top + row.height);
      context.lineTo(x + row.height, row.top);
    }
    context.stroke();
    context.restore();
  }
}

/** A text, cut to a width. */
function fit(context, text, width) {
  if (context.measureText(text).width <= width) return text;
  let length = text.length;
  while (length > 1 && context.measureText(`${text.slice(0, length)}…`).width > width) length--;
  return `${text.slice(0, length)}…`;
}

/** A round number that is at least `value`: 1, 2 or 5 times a power of ten. */
function roundUp(value, factors = [1, 2, 5, 10]) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return factors.map((factor) => factor * power).find((round) => round >= value * (1 - 1e-9));
}

/** Factors of powers of ten that fill a scale better. */
const FINE = [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10];

/** The same for bytes: 1, 2, 4 … KiB and so on. */
const roundUpBytes = (value) => 2 ** Math.ceil(Math.log2(Math.max(value, 1024)));

/** The time axis. */
class Axis {
  height = 26;
  draw(context, chart) {
    const { theme } = chart;
    context.font = SMALL_FONT;
    context.textBaseline = "middle";
    context.textAlign = "center";
    context.fillStyle = theme.muted;
    const { step, places } = this.ticks(chart);
    const digits = Math.max(0, Math.ceil(9 - Math.log10(step)));
    for (const t of places) context.fillText(`${(t / 1e9).toFixed(digits)} s`, Math.round(chart.x(t)) + 0.5, this.top + this.height / 2);
    context.textAlign = "left";
    context.fillText("time", 12, this.top + this.height / 2);
  }
  /** Lines through all rows. */
  drawGrid(context, chart) {
    context.fillStyle = chart.theme.grid;
    for (const t of this.ticks(chart).places) context.fillRect(Math.round(chart.x(t)) + 0.5, this.top + this.height, 1, chart.height);
  }
  ticks(chart) {
    const step = roundUp((chart.span * 90) / chart.plotWidth);
    const places = [];
    for (let t = Math.ceil(chart.from / step) * step; t <= chart.to; t += step) places.push(t);
    return { step, places };
  }
}
