// The rows of streams.

/** The bytes of one stream, as they were sent. */
class StreamRow {
  constructor(session, way, flow, height) {
    Object.assign(this, { session, way, flow, height });
  }

  /** The pieces that are in the range of time, and the bytes between which they are. */
  visible(chart) {
    const { t, tcp, piece } = this.flow;
    const first = Math.max(0, lowerBound(t, chart.from) - 1), end = Math.min(t.length, lowerBound(t, chart.to) + 1);
    let low = Infinity, high = 0;
    for (let at = first; at < end; at++) {
      if (this.session.hidden.has(tcp[at])) continue;
      const start = columns["piece-start"][piece[at]];
      low = Math.min(low, start);
      high = Math.max(high, start + columns["piece-len"][piece[at]]);
    }
    return { first, end, low: high > low ? low : 0, high: Math.max(high, 1) };
  }

  draw(context, chart) {
    const { flow, way } = this, { theme } = chart;
    chart.frame(context, this, `Stream ${flow.stream}`, [chart.isNarrow ? null : way.name, size(flow.bytes), chart.isNarrow ? plural(flow.t.length, "piece") : `in ${plural(flow.t.length, "piece")}`].filter(Boolean));
    const { first, end, low, high } = this.visible(chart);
    this.range = { low, high };
    chart.scale(context, size(high), this.top + 10);
    chart.scale(context, low === 0 ? "0 B" : size(low), this.top + this.height - 8);
    const ratio = chart.ratio;
    const [width, height] = [Math.round(chart.plotWidth * ratio), Math.max(1, Math.round((this.height - 8) * ratio))];
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const mark = pixel(theme.text);
    const colors = new Map(this.session.tcps.map((tcp) => [tcp, pixel(theme.tcp(tcp))]));
    const paint = (from, again, start, length, color) => {
      const x = Math.round(((from - chart.from) / chart.span) * width);
      const y1 = height - 1 - Math.floor(((start - low) / (high - low)) * (height - 1));
      const y0 = Math.min(y1 - Math.round(ratio), height - 1 - Math.ceil(((start + length - low) / (high - low)) * (height - 1)));
      const thick = Math.round((again ? 4 : 2) * ratio), edge = again ? Math.round(1.5 * ratio) : 0;
      for (let row = Math.max(0, y0 - edge); row <= Math.min(height - 1, y1 + edge); row++) {
        for (let column = Math.max(0, x - edge); column < Math.min(width, x + thick + edge); column++) {
          const inside = row >= y0 && row <= y1 && column >= x && column < x + thick;
          pixels[row * width + column] = inside ? color : mark;
        }
      }
    };
    // What was sent again is drawn last, so that nothing covers it.
    for (const again of [false, true]) {
      for (let at = first; at < end; at++) {
        const piece = flow.piece[at];
        if ((columns["piece-why"][piece] > 0) !== again || this.session.hidden.has(flow.tcp[at])) continue;
        paint(flow.t[at], again, columns["piece-start"][piece], columns["piece-len"][piece], colors.get(flow.tcp[at]));
      }
    }
    this.canvas ??= document.createElement("canvas");
    [this.canvas.width, this.canvas.height] = [width, height];
    this.canvas.getContext("2d").putImageData(image, 0, 0);
    context.drawImage(this.canvas, GUTTER, this.top + 4, chart.plotWidth, this.height - 8);
  }

  hover(t, y, chart) {
    const { flow } = this, { low, high } = this.range;
    const near = (chart.span / chart.plotWidth) * 8;
    const first = lowerBound(flow.t, t - near), end = Math.min(lowerBound(flow.t, t + near), first + 20_000);
    const byte = low + ((this.top + this.height - 4 - y) / (this.height - 8)) * (high - low);
    let best = null, least = Infinity;
    for (let at = first; at < end; at++) {
      const start = columns["piece-start"][flow.piece[at]], length = columns["piece-len"][flow.piece[at]];
      const dx = Math.abs(flow.t[at] - t) / near;
      const dy = Math.max(0, start - byte, byte - start - length) / ((high - low) / this.height) / 8;
      if (dx + dy < least) [best, least] = [at, dx + dy];
    }
    if (best === null || least > 3) return null;
    const piece = flow.piece[best], start = columns["piece-start"][piece];
    const lines = [
      `stream ${flow.stream}, bytes ${range(start, start + columns["piece-len"][piece])}`,
      `on TCP ${flow.tcp[best]} at ${moment(flow.t[best], chart.span)}`,
      WHY_LONG[columns["piece-why"][piece]],
    ];
    return { text: lines.join("\n"), event: columns["piece-event"][piece] };
  }
}
