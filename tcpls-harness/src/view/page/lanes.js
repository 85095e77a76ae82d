// The rows of TCP connections.

/** One TCP connection. */
class TcpRow {
  height = 104;
  constructor(session, lane, scales) {
    Object.assign(this, { session, lane, scales });
  }

  draw(context, chart) {
    const { lane } = this, { theme } = chart;
    const path = lane.path === null ? null : `path ${pathName(lane.path)}`;
    const role = [lane.backup ? "backup" : null, lane.lane ? "lane, no bulk data" : null].filter(Boolean).join(", ");
    const sums = [`↑ ${size(lane.records[SENT].total)}`, `↓ ${size(lane.records[RECEIVED].total)}`];
    const lines = [path, role || null, ...sums];
    chart.frame(context, this, `TCP ${lane.id}`, lines.filter(Boolean));
    context.fillStyle = theme.tcp(lane.id);
    context.fillRect(0, this.top + 1, 5, this.height - 1);
    chart.scale(context, `${duration(this.scales.rtt).replace(/\.00? /, " ")} RTT`.replace(".0 ", " "), this.top + 72, theme.rtt);
    chart.scale(context, size(this.scales.flight).replace(".0 ", " "), this.top + 86);
    chart.clip(context, this);
    const [left, right] = [chart.x(lane.from), chart.x(lane.until)];
    context.fillStyle = theme.panel;
    context.fillRect(left, this.top + 1, Math.max(1, right - left), this.height - 1);
    this.drawFaults(context, chart);
    for (const [from, until] of lane.stalls) chart.hatch(context, this, from, until, theme.trouble);
    this.drawFlight(context, chart);
    this.drawRecords(context, chart);
    this.drawLabels(context, chart, left, right);
  }

  /** Where the network failed on purpose. */
  drawFaults(context, chart) {
    context.fillStyle = chart.theme.soft;
    const name = this.lane.path === null ? null : trace.paths[this.lane.path];
    for (const [, path, from, until] of trace.faults) {
      if (path !== null && path !== name) continue;
      const [left, right] = [chart.x(Math.max(from, this.lane.from)), chart.x(Math.min(until ?? chart.full, this.lane.until))];
      if (right >= left) context.fillRect(left, this.top + 1, Math.max(1, right - left), this.height - 1);
    }
  }

  /** Bars up for records that were sent, down for those received, dots for acknowledgments. */
  drawRecords(context, chart) {
    const { lane } = this, { theme } = chart;
    const middle = this.top + 32;
    const [up, down] = [24, 20];
    context.fillStyle = theme.tcp(lane.id);
    context.globalAlpha = 0.35;
    context.fillRect(GUTTER, middle, chart.plotWidth, 1);
    context.globalAlpha = 1;
    lane.records.forEach((records, way) => {
      context.globalAlpha = way === SENT ? 1 : 0.7;
      const room = way === SENT ? up : down;
      const bar = (x, width, part) => {
        const height = Math.max(1, part * room);
        context.fillRect(x, way === SENT ? middle - height : middle + 1, width, height);
      };
      this.bars(records, chart, bar);
    });
    context.globalAlpha = 1;
    context.fillStyle = theme.recovery;
    this.columns(lane.acks, chart, 2, (x) => context.fillRect(x, this.top + 56, 2, 3));
  }

  /** Records one by one where there are few, otherwise sums of columns; as parts of the highest. */
  bars(records, chart, bar) {
    const first = lowerBound(records.t, chart.from), end = lowerBound(records.t, chart.to);
    if (end - first < chart.plotWidth / 4) {
      for (let at = first; at < end; at++) bar(chart.x(records.t[at]) - 1, 2, records.value[at] / this.scales.record);
    } else {
      this.columns(records, chart, 2, (x, sum) => bar(x, 2, sum / this.scales.column));
    }
  }

  /** Calls `draw` for each column of pixels in which there is a point, with the sum of their values. */
  columns(sums, chart, width, draw) {
    const step = (chart.span * width) / chart.plotWidth;
    const end = lowerBound(sums.t, chart.to);
    for (let at = lowerBound(sums.t, chart.from); at < end; ) {
      const column = Math.floor((sums.t[at] - chart.from) / step);
      const next = lowerBound(sums.t, chart.from + (column + 1) * step, at + 1, end);
      draw(GUTTER + column * width, sums.sum[next] - sums.sum[at]);
      at = next;
    }
  }

  /** The area of what is in flight, and the line of the round-trip time. */
  drawFlight(context, chart) {
    const bottom = this.top + this.height - 3, room = this.height - 68;
    context.fillStyle = chart.theme.flight;
    this.steps(this.lane.flight, chart, (left, right, value) => {
      const height = (Math.min(value, this.scales.flight) / this.scales.flight) * room;
      context.fillRect(left, bottom - height, right - left, height);
    });
    context.strokeStyle = chart.theme.rtt;
    context.lineWidth = 1.25;
    context.beginPath();
    let begun = false;
    this.steps(this.lane.rtt, chart, (left, right, value) => {
      const y = bottom - (Math.min(value, this.scales.rtt) / this.scales.rtt) * room;
      if (begun) context.lineTo(left, y);
      else context.moveTo(left, y);
      begun = true;
      context.lineTo(right, y);
    });
    context.stroke();
  }

  /** Calls `draw` for each step of a series: from point to point, or the largest value of each pixel. */
  steps(series, chart, draw) {
    const end = Math.min(series.t.length, lowerBound(series.t, chart.to) + 1);
    const until = chart.x(this.lane.until);
    for (let at = Math.max(0, series.before(chart.from)); at < end; ) {
      const left = chart.x(series.t[at]);
      let most = series.value[at], next = at + 1;
      while (next < end && chart.x(series.t[next]) < left + 1) most = Math.max(most, series.value[next++]);
      const right = Math.min(until, next < series.t.length ? chart.x(series.t[next]) : until);
      if (right > left) draw(left, right, most);
      at = next;
    }
  }

  drawLabels(context, chart, left, right) {
    const { lane } = this, { theme } = chart;
    context.font = SMALL_FONT;
    context.textBaseline = "top";
    const label = (text, x, color, room) => {
      const words = fit(context, text, Math.max(60, room));
      const width = context.measureText(words).width;
      context.fillStyle = theme.page;
      context.globalAlpha = 0.75;
      context.fillRect(x - 2, this.top + 3, width + 4, 14);
      context.globalAlpha = 1;
      context.fillStyle = color;
      context.fillText(words, x, this.top + 4);
    };
    for (const [from, until] of lane.stalls) {
      const [start, end] = [Math.max(chart.x(from), GUTTER), Math.min(chart.x(until), GUTTER + chart.plotWidth)];
      if (end - start > 46) label("stalled", start + 4, theme.trouble, end - start - 6);
    }
    const absence = lane.from > chart.to ? "does not exist yet" : lane.until < chart.from ? "has ended" : null;
    if (absence !== null) label(absence, GUTTER + 8, theme.muted, chart.plotWidth);
    if (lane.joined !== null && lane.id !== 0) {
      const x = chart.x(lane.joined);
      context.fillStyle = theme.recovery;
      context.beginPath();
      context.moveTo(x, this.top + 4);
      context.lineTo(x + 8, this.top + 9);
      context.lineTo(x, this.top + 14);
      context.fill();
      if (right - x > 60) label("joined", x + 11, theme.recovery, 60);
    }
    if (lane.lost !== null) {
      context.strokeStyle = theme.trouble;
      context.lineWidth = 2.5;
      context.beginPath();
      for (const [dx, dy] of [[-5, -5], [5, -5]]) {
        context.moveTo(right + dx, this.top + 32 + dy);
        context.lineTo(right - dx, this.top + 32 - dy);
      }
      context.stroke();
      const room = GUTTER + chart.plotWidth - right - 16;
      const text = `lost: ${lane.lost[1]}`;
      if (room > 130) label(text, right + 10, theme.trouble, room);
      else label(text, Math.max(GUTTER + 4, right - 10 - context.measureText(text).width), theme.trouble, right - GUTTER - 16);
    }
  }

  hover(t, y, chart) {
    const { lane } = this;
    const near = (chart.span / chart.plotWidth) * 4;
    const lines = [`TCP ${lane.id}${lane.path === null ? "" : `, path ${pathName(lane.path)}`}`];
    let event = null;
    lane.records.forEach((records, way) => {
      const first = lowerBound(records.t, t - near), end = lowerBound(records.t, t + near);
      if (end === first) return;
      event ??= records.event[first];
      const verb = way === SENT ? "sent" : "received";
      lines.push(`${plural(end - first, "record")} ${verb} here, ${size(records.sum[end] - records.sum[first])}`);
    });
    const at = (series) => (series.before(t) < 0 || t > lane.until ? null : series.value[series.before(t)]);
    const [rtt, flight] = [at(lane.rtt), at(lane.flight)];
    if (rtt !== null) lines.push(`round-trip time ${duration(rtt)}`);
    if (flight !== null) lines.push(`in flight ${size(flight)}`);
    if (lane.stalls.some(([from, until]) => t >= from && t < until)) lines.push("stalled: gives no answer");
    if (lane.lost !== null && t >= lane.until) lines.push(`lost at ${moment(lane.lost[0])}: ${lane.lost[1]}`);
    else if (t < lane.from) lines.push("does not exist yet");
    return { text: lines.join("\n"), event };
  }
}

/** Common scales of all TCP connections, so that their rows can be compared. */
function scalesOf(session, chart) {
  const scales = { rtt: 1e6, flight: 1024, record: 1, column: 1 };
  const step = (chart.span * 2) / chart.plotWidth;
  for (const lane of session.lanes.values()) {
    if (session.hidden.has(lane.id)) continue;
    const [first, last] = [(series) => series.before(chart.from), (series) => Math.min(series.t.length, lowerBound(series.t, chart.to) + 1)];
    for (const [series, name] of [[lane.rtt, "rtt"], [lane.flight, "flight"]]) {
      for (let at = Math.max(0, first(series)); at < last(series); at++) scales[name] = Math.max(scales[name], series.value[at]);
    }
    for (const records of lane.records) {
      for (let at = lowerBound(records.t, chart.from); at < lowerBound(records.t, chart.to); ) {
        const next = lowerBound(records.t, records.t[at] + step, at + 1);
        scales.column = Math.max(scales.column, records.sum[next] - records.sum[at]);
        scales.record = Math.max(scales.record, records.value[at]);
        at = next;
      }
    }
  }
  return { ...scales, rtt: roundUp(scales.rtt, FINE), flight: roundUpBytes(scales.flight) };
}
