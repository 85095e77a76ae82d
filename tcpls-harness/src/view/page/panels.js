// The parts of the page that are text: summary, story, legend, event, state, totals.

/** A small picture for the legend. */
function swatch(draw) {
  const canvas = make("canvas", { width: 32, height: 28 });
  canvas.setAttribute("aria-hidden", "true");
  const context = canvas.getContext("2d");
  context.scale(2, 2);
  draw(context);
  return canvas;
}

function showSummary(session) {
  const trouble = /stall|lost|failed on purpose|not complete|incomplete|missing|cannot be/;
  const isCalm = /^No TCP connection/;
  const mark = (sentence, number) => {
    const bad = trouble.test(sentence) && !isCalm.test(sentence);
    return make("li", { className: bad ? "trouble" : number === 0 ? "lead" : "" }, sentence);
  };
  byId("summary").replaceChildren(...session.description.summary.map(mark));
}

/** The moments that concern a session: numbers of `trace.story`. */
function storyOf(session) {
  return trace.story.map((_, number) => number).filter((number) => {
    const end = trace.story[number][1];
    if (session.ends.includes(end)) return true;
    // What a host does outside of sessions belongs to the sessions of that host.
    const { session: other, host } = trace.ends[end];
    return other === null && (host === "network" || session.ends.some((own) => trace.ends[own].host === host));
  });
}

function showStory(moments, choose) {
  const rows = moments.slice(0, 500).map((number) => {
    const [t, , event, , mood, text] = trace.story[number];
    const button = make("button", { type: "button", className: mood }, make("span", { className: "when" }, moment(t)), make("span", {}, text));
    button.addEventListener("click", () => choose(event));
    return make("li", {}, button);
  });
  const more = moments.length - rows.length + trace.untold;
  if (more > 0) rows.push(make("li", { className: "muted" }, `and ${plural(more, "more moment")}`));
  if (rows.length === 0) rows.push(make("li", { className: "muted" }, "Nothing that changes what the session can do: no TCP connection joined, stalled or was lost."));
  byId("story").replaceChildren(...rows);
}

/** Marks the moment of the selected event. */
function markStory(moments, event) {
  const buttons = byId("story").querySelectorAll("button");
  buttons.forEach((button, at) => {
    const isCurrent = trace.story[moments[at]][2] === event;
    if (isCurrent) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
    if (isCurrent) button.parentElement.parentElement.scrollTop = button.offsetTop - button.parentElement.parentElement.offsetTop - 60;
  });
}

function showLegend(session, theme, toggle) {
  const chips = session.tcps.map((tcp) => {
    const lane = session.ends.map((end) => trace.ends[end].tcps.find((other) => other.id === tcp)).find((other) => other && other.path !== null);
    const name = `TCP ${tcp}${lane ? ` · ${pathName(lane.path)}` : ""}`;
    const dot = make("span", { className: "dot" });
    dot.style.background = theme.tcp(tcp);
    const button = make("button", { type: "button", title: "Show or hide this TCP connection" }, dot, name);
    button.setAttribute("aria-pressed", String(!session.hidden.has(tcp)));
    button.addEventListener("click", () => toggle(tcp));
    return button;
  });
  // What has the focus keeps it.
  const focused = [...byId("tcps").children].indexOf(document.activeElement);
  byId("tcps").replaceChildren(...chips);
  chips[focused]?.focus();
  byId("tcps-many").hidden = chips.length <= 4;
  const mark = (draw, text) => make("li", {}, swatch(draw), text);
  const color = theme.tcp(session.tcps[0] ?? 0);
  const marks = [
    mark((context) => {
      context.fillStyle = color;
      context.fillRect(3, 1, 3, 6);
      context.fillRect(9, 3, 3, 4);
      context.globalAlpha = 0.7;
      context.fillRect(3, 8, 3, 3);
      context.fillRect(9, 8, 3, 5);
    }, "records sent ↑ received ↓"),
    mark((context) => {
      context.fillStyle = theme.recovery;
      for (const x of [2, 7, 12]) context.fillRect(x, 6, 2, 3);
    }, "acknowledgments"),
    mark((context) => {
      context.fillStyle = theme.flight;
      context.fillRect(0, 5, 16, 9);
      context.fillStyle = theme.rtt;
      context.fillRect(0, 2, 16, 1.3);
    }, "bytes in flight, round-trip time"),
    mark((context) => {
      context.fillStyle = theme.soft;
      context.fillRect(0, 0, 16, 14);
      context.strokeStyle = theme.trouble;
      context.beginPath();
      for (const x of [-8, 0, 8]) {
        context.moveTo(x, 14);
        context.lineTo(x + 14, 0);
      }
      context.stroke();
    }, "stalled"),
    mark((context) => {
      context.strokeStyle = theme.trouble;
      context.lineWidth = 2.5;
      context.beginPath();
      context.moveTo(3, 2);
      context.lineTo(13, 12);
      context.moveTo(13, 2);
      context.lineTo(3, 12);
      context.stroke();
    }, "lost"),
    mark((context) => {
      context.fillStyle = theme.text;
      context.fillRect(4, 1, 8, 12);
      context.fillStyle = color;
      context.fillRect(6, 3, 4, 8);
    }, "sent again"),
  ];
  if (trace.faults.length > 0) {
    marks.push(mark((context) => {
      context.fillStyle = theme.soft;
      context.fillRect(0, 0, 16, 14);
    }, "the network fails on purpose"));
  }
  byId("marks").replaceChildren(...marks);
}

/** The selected event, and those around it. */
function showEvent(event, around, choose) {
  if (event === null) {
    byId("event").replaceChildren(make("p", { className: "muted" }, "Click into the chart, or press n, to look at one event after the other."));
    byId("events").replaceChildren();
    return;
  }
  const { title, fields } = describe(event);
  const rows = fields.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]);
  const where = `${moment(columns.t[event], 1e6)} · ${endName(columns.end[event])} · event ${count(event + 1)} of ${count(eventCount)}`;
  byId("event").replaceChildren(make("h3", {}, title), make("p", { className: "muted" }, where), make("dl", {}, ...rows));
  byId("events").replaceChildren(
    ...around.map((other) => {
      const when = make("span", { className: "when" }, moment(columns.t[other], 1e6));
      const button = make("button", { type: "button" }, when, make("span", {}, describe(other).title));
      if (other === event) button.setAttribute("aria-current", "true");
      button.addEventListener("click", () => choose(other));
      return make("li", {}, button);
    }),
  );
  byId("live").textContent = `${title}, at ${moment(columns.t[event])}`;
}

function table(heads, rows, caption) {
  const cell = (name, [value, isNumber]) => make(name, { className: isNumber ? "number" : "" }, value);
  return make(
    "table",
    {},
    make("caption", { className: "hidden" }, caption),
    make("thead", {}, make("tr", {}, ...heads.map((head) => cell("th", head)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((value) => cell("td", value))))),
  );
}

/** The name of a TCP connection with its color. */
function named(tcp, theme) {
  const dot = make("span", { className: "dot" });
  dot.style.background = theme.tcp(tcp);
  return make("span", {}, dot, `TCP ${tcp}`);
}

function showState(event, end, states, theme) {
  if (event === null || end === undefined) {
    byId("state").replaceChildren(make("p", { className: "muted" }, "Select an event in the chart or in the lists: here is what its end knew at that moment."));
    return;
  }
  const state = states.after(event);
  const or = (value, format) => [value === null ? "–" : format(value), true];
  const rows = [...state.tcps].sort(([a], [b]) => a - b).map(([number, tcp]) => {
    const extra = [tcp.stalled ? "stalled" : null, tcp.backup ? "backup" : null, tcp.lane ? "lane" : null].filter(Boolean);
    return [
      [named(number, theme)], [[tcp.phase, ...extra].join(", ")], or(tcp.rtt, duration), or(tcp.flight, size), or(tcp.rate, (bytes) => rate(bytes * 8)),
      or(tcp.sent, count), or(tcp.acknowledged, count), or(tcp.received, count), [size(tcp.bytes[SENT]), true], [size(tcp.bytes[RECEIVED]), true],
    ];
  });
  const heads = [
    ["TCP connection"], ["state"], ["round-trip time", true], ["in flight", true], ["delivery rate", true],
    ["last record sent", true], ["acknowledged up to", true], ["last record received", true], ["bytes sent", true], ["bytes received", true],
  ];
  const streams = [...state.streams].slice(0, 12).map(([stream, [sent, received]]) => `stream ${stream}: ${size(sent)} sent, ${size(received)} received`);
  if (state.streams.size > 12) streams.push(`${state.streams.size - 12} more streams`);
  const text = `${endName(end)}, at ${moment(columns.t[event], 1e6)}${state.session === null ? "" : `: the session is ${state.session}`}${state.closed === null ? "" : ` (${state.closed})`}. ${streams.join("; ")}`;
  byId("state").replaceChildren(make("p", {}, text), table(heads, rows, "TCP connections at the selected event"));
}

/** What each TCP connection did over the whole trace, as the selected end has it. */
function showTotals(session, theme) {
  const way = session.ways[0];
  const rows = [...session.lanes.values()].map((lane) => {
    const stalled = lane.stalls.reduce((sum, [from, until]) => sum + until - from, 0);
    const rtts = lane.rtt.value;
    const least = rtts.reduce((least, rtt) => Math.min(least, rtt), Infinity);
    const carried = way?.goodput.pieces.byTcp.get(lane.id)?.total ?? 0;
    const fate = lane.lost ? `lost at ${moment(lane.lost[0])}: ${lane.lost[1]}` : "in use to the end";
    return [
      [named(lane.id, theme)], [lane.path === null ? "–" : pathName(lane.path)], [size(carried), true],
      [count(lane.records[SENT].t.length), true], [size(lane.records[SENT].total), true],
      [count(lane.records[RECEIVED].t.length), true], [size(lane.records[RECEIVED].total), true],
      [rtts.length === 0 ? "–" : duration(least), true],
      [lane.stalls.length === 0 ? "–" : `${lane.stalls.length} (${duration(stalled)})`, true], [fate],
    ];
  });
  const heads = [
    ["TCP connection"], ["path"], [`new stream data ${way?.name ?? ""}`, true], ["records sent", true], ["bytes sent", true],
    ["records received", true], ["bytes received", true], ["smallest smoothed round-trip time", true], ["stalls", true], ["fate"],
  ];
  const parts = [table(heads, rows, "TCP connections over the whole trace")];
  const again = way ? way.ranges.pieces.again.map((bytes, why) => (bytes > 0 ? `${size(bytes)} ${WHY[why]}` : null)).filter(Boolean) : [];
  parts.push(make("p", { id: "again", className: "muted" }, again.length > 0 ? `Of the stream data ${way.name}, beyond what was new: ${again.join(", ")}.` : "No stream data was sent again."));
  byId("totals").replaceChildren(...parts);
}
