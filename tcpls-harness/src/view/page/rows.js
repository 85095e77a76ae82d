// Rows of the chart that are about the session as a whole. A row draws itself, and says in words what is at a place.

/** Columns of goodput are not narrower than this, in pixels and in time. */
const BIN_PIXELS = 3, BIN_NS = 50e6;
/** TCP connections that are named at the pointer. */
const MOST_NAMED = 8;

/** Goodput in columns: the rate of each TCP connection in each. */
function binsOf(chart, session, way, width = chart.plotWidth, from = chart.from, to = chart.to) {
  const span = to - from;
  const step = Math.max((span * BIN_PIXELS) / width, Math.min(BIN_NS, span / 20));
  const tcps = session.tcps.filter((tcp) => !session.hidden.has(tcp));
  const bins = [];
  let most = 0;
  for (let start = Math.floor(from / step) * step; start < to; start += step) {
    const rates = tcps.map((tcp) => way.goodput.pieces.rateBetween(tcp, start, start + step));
    const sum = rates.reduce((sum, rate) => sum + rate, 0);
    most = Math.max(most, sum);
    bins.push({ start, end: start + step, rates, sum });
  }
  return { bins, tcps, most };
}

/** The same, as long as the range of time is the same: with many TCP connections it takes long. */
function keptBins(row, chart, from = chart.from, to = chart.to) {
  const key = `${from} ${to} ${chart.plotWidth}`;
  if (row.key !== key) [row.key, row.bins] = [key, binsOf(chart, row.session, row.way, chart.plotWidth, from, to)];
  return row.bins;
}

/** Draws stacked columns, with a line on top of the sum. */
function stack(context, { bins, tcps }, x, y, theme) {
  const base = bins.map(() => 0);
  tcps.forEach((tcp, number) => {
    context.fillStyle = theme.tcp(tcp);
    bins.forEach((bin, at) => {
      if (bin.rates[number] === 0) return;
      // Whole pixels, so that no seams are between columns.
      const [left, right] = [Math.round(x(bin.start)), Math.round(x(bin.end))];
      const [bottom, top] = [y(base[at]), y(base[at] + bin.rates[number])];
      context.fillRect(left, top, Math.max(1, right - left), bottom - top);
      base[at] += bin.rates[number];
    });
  });
  context.strokeStyle = theme.text;
  context.lineWidth = 1.25;
  context.beginPath();
  bins.forEach((bin, at) => {
    if (at === 0) context.moveTo(x(bin.start), y(bin.sum));
    context.lineTo(x(bin.start), y(bin.sum));
    context.lineTo(x(bin.end), y(bin.sum));
  });
  context.stroke();
}

/** The whole trace, small, with the part that is shown. */
class Overview {
  height = 40;
  constructor(session, way) {
    Object.assign(this, { session, way });
  }
  draw(context, chart) {
    const { theme } = chart;
    const x = (t) => GUTTER + (t / chart.full) * chart.plotWidth;
    context.font = SMALL_FONT;
    context.textBaseline = "middle";
    context.fillStyle = theme.muted;
    context.fillText("whole trace", 12, this.top + this.height / 2);
    context.fillStyle = theme.panel;
    context.fillRect(GUTTER, this.top + 4, chart.plotWidth, this.height - 6);
    chart.clip(context, this);
    if (this.way) {
      const bins = keptBins(this, chart, 0, chart.full);
      const most = Math.max(bins.most, 1);
      context.globalAlpha = 0.75;
      stack(context, bins, x, (rate) => this.top + this.height - 3 - (rate / most) * (this.height - 10), theme);
      context.globalAlpha = 1;
    }
    context.fillStyle = theme.soft;
    for (const [, , from, until] of trace.faults) context.fillRect(x(from), this.top + 4, Math.max(2, x(until ?? chart.full) - x(from)), this.height - 6);
    const [left, right] = [x(chart.from), x(chart.to)];
    // What is not shown below is pale here.
    context.fillStyle = theme.page;
    context.globalAlpha = 0.7;
    context.fillRect(GUTTER, this.top + 4, left - GUTTER, this.height - 6);
    context.fillRect(right, this.top + 4, GUTTER + chart.plotWidth - right, this.height - 6);
    context.globalAlpha = 1;
    context.strokeStyle = theme.accent;
    context.strokeRect(left + 0.5, this.top + 4.5, Math.max(2, right - left - 1), this.height - 7);
  }
  timeAt(x, chart) {
    return ((x - GUTTER) / chart.plotWidth) * chart.full;
  }
}

/** The faults of a simulated network. */
class Network {
  constructor() {
    // Faults at the same time are below each other.
    this.levels = [];
    const ends = [];
    for (const [, , from, until] of trace.faults) {
      const level = ends.findIndex((end) => end <= from);
      this.levels.push(level < 0 ? ends.length : level);
      ends[level < 0 ? ends.length : level] = until ?? Infinity;
    }
    this.height = 12 + 20 * Math.min(5, Math.max(1, ends.length));
  }
  draw(context, chart) {
    chart.frame(context, this, "Network");
    const { theme } = chart;
    chart.clip(context, this);
    trace.faults.forEach(([kind, path, from, until], number) => {
      const [left, right] = [chart.x(from), Math.max(chart.x(from) + 3, chart.x(until ?? chart.full))];
      const y = this.top + 7 + 20 * this.levels[number];
      context.fillStyle = theme.soft;
      context.fillRect(left, y, right - left, 17);
      context.fillStyle = theme.trouble;
      context.fillRect(left, y, 3, 17);
      context.font = SMALL_FONT;
      context.textBaseline = "middle";
      // Where the next fault begins, the name ends.
      const next = trace.faults.findIndex((_, other) => other > number && this.levels[other] === this.levels[number]);
      const end = Math.min(GUTTER + chart.plotWidth, next < 0 ? Infinity : chart.x(trace.faults[next][2]));
      const room = end - Math.max(left, GUTTER) - 14;
      if (room > 20) context.fillText(fit(context, this.name(kind, path), room), Math.max(left, GUTTER) + 8, y + 9);
    });
  }
  name(kind, path) {
    return kind.replaceAll("-", " ") + (path === null ? "" : `, path ${path}`);
  }
  hover(t, y) {
    const at = trace.faults.findIndex(([, , from, until], number) => {
      const top = this.top + 7 + 20 * this.levels[number];
      return t >= from && t <= (until ?? Infinity) && y >= top && y < top + 20;
    });
    if (at < 0) return null;
    const [kind, path, from, until] = trace.faults[at];
    return { text: `${this.name(kind, path)}\nfrom ${moment(from)}${until === null ? "" : ` to ${moment(until)}`}` };
  }
}

/** New stream data per second. */
class Goodput {
  height = 150;
  constructor(session, way) {
    Object.assign(this, { session, way });
  }
  draw(context, chart) {
    const about = chart.isNarrow ? ["new data per", "second, by TCP", "connection"] : ["new stream data per", "second, by TCP", "connection", this.way.name];
    chart.frame(context, this, "Goodput", about);
    const bins = keptBins(this, chart);
    const most = roundUp(bins.most, FINE), bottom = this.top + this.height - 4, room = this.height - 16;
    const y = (rate) => bottom - (rate / most) * room;
    for (const part of [0, 0.5, 1]) {
      context.fillStyle = chart.theme.grid;
      context.fillRect(GUTTER, y(part * most), chart.plotWidth, 1);
      chart.scale(context, part === 0 ? "0" : rate(part * most).replace(/\.0+ /, " "), y(part * most) - (part === 0 ? 4 : 0));
    }
    chart.clip(context, this);
    stack(context, bins, (t) => chart.x(t), y, chart.theme);
  }
  hover(t) {
    const bin = this.bins?.bins.find((bin) => t >= bin.start && t < bin.end);
    if (!bin) return null;
    const active = this.bins.tcps.map((tcp, number) => [tcp, bin.rates[number]]).filter(([, rate]) => rate > 0);
    const each = active.sort(([, a], [, b]) => b - a).slice(0, MOST_NAMED).map(([tcp, bits]) => `TCP ${tcp}: ${rate(bits)}`);
    if (active.length > MOST_NAMED) each.push(`and ${active.length - MOST_NAMED} more TCP connections`);
    return { text: [`goodput ${rate(bin.sum)}`, ...each].join("\n") };
  }
}
