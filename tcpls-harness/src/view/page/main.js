// Puts the page together: what is chosen, what is selected, and what is drawn of it.

const chart = new Chart(byId("canvas"));
const chosen = { session: 0, seen: null, way: 0, stream: "", groups: new Set(Object.keys(GROUPS)) };
let session, states, moments;
/** Streams in rows of their own; a choice shows another one. */
const MAX_STREAMS = 6;

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "Light" : "Dark";
  chart.theme = new Theme();
}

/** Reads a session anew. */
function openSession() {
  const hidden = session && session.description === trace.sessions[chosen.session] ? session.hidden : new Set();
  session = new Session(chosen.session, chosen.seen);
  session.hidden = hidden;
  chosen.seen = session.seen ?? null;
  states = new Map(session.ends.map((end) => [end, new States(end)]));
  moments = storyOf(session);
  chosen.way = Math.min(chosen.way, Math.max(0, session.ways.length - 1));
  const options = (id, list) => {
    byId(id).replaceChildren(...list.map(([value, text, isSelected]) => make("option", { value, selected: isSelected }, text)));
    byId(id).disabled = list.length < 2;
  };
  options("session", trace.sessions.slice(0, 2000).map(({ number, ends }, at) => {
    const hosts = ends.map((end) => trace.ends[end].host).filter(Boolean).join(" – ");
    return [at, number === null ? "the only one" : `${number}${hosts ? ` (${hosts})` : ""}`, at === chosen.session];
  }));
  options("seen", session.ends.map((end) => [end, endName(end).toLowerCase(), end === session.seen]));
  options("way", session.ways.map((way, at) => [at, way.name, at === chosen.way]));
  showStreams();
  showSummary(session);
  showStory(moments, select);
  refresh();
}

/** The streams of the chosen direction. */
function showStreams() {
  const way = session.ways[chosen.way];
  const flows = way ? [...way.ranges.pieces.streams.values()].sort((a, b) => b.bytes - a.bytes) : [];
  const all = flows.length > MAX_STREAMS ? `the largest ${MAX_STREAMS} of ${count(flows.length)}` : "all";
  const list = [["", all], ...flows.slice(0, 2000).map(({ stream, bytes }) => [String(stream), `${stream} (${size(bytes)})`])];
  if (!list.some(([value]) => value === chosen.stream)) chosen.stream = "";
  byId("stream").replaceChildren(...list.map(([value, text]) => make("option", { value, selected: value === chosen.stream }, text)));
  byId("stream").disabled = flows.length < 2;
}

/** Makes the rows of what is chosen, and draws them. */
function layOut() {
  const way = session.ways[chosen.way];
  const rows = [new Overview(session, way), new Axis()];
  if (trace.faults.length > 0) rows.push(new Network());
  if (way) rows.push(new Goodput(session, way));
  chart.tcpRows = [...session.lanes.values()].filter((lane) => !session.hidden.has(lane.id)).map((lane) => new TcpRow(session, lane, {}));
  rows.push(...chart.tcpRows);
  if (way) {
    let flows = [...way.ranges.pieces.streams.values()];
    if (chosen.stream !== "") flows = flows.filter(({ stream }) => String(stream) === chosen.stream);
    flows = flows.sort((a, b) => b.bytes - a.bytes).slice(0, MAX_STREAMS).sort((a, b) => a.stream - b.stream);
    const height = flows.length === 1 ? 190 : flows.length <= 3 ? 130 : 84;
    rows.push(...flows.map((flow) => new StreamRow(session, way, flow, height)));
  }
  chart.setRows(rows, 2);
  chart.scales = null;
}

let isDue = false;
/** Draws at the next frame. */
function redraw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    drawNow();
  });
}

function drawNow() {
  chart.fitCanvas();
  const key = `${chart.from} ${chart.to} ${chart.plotWidth}`;
  if (chart.scales?.key !== key) chart.scales = { ...scalesOf(session, chart), key };
  for (const row of chart.tcpRows) row.scales = chart.scales;
  chart.draw();
  const what = `Chart from ${moment(chart.from, chart.span)} to ${moment(chart.to, chart.span)}: ${chart.tcpRows.length} TCP connections`;
  chart.canvas.setAttribute("aria-label", `${what}. Use the arrow keys, plus, minus, n and p.`);
}

/** After a change of what is chosen. */
function refresh() {
  showLegend(session, chart.theme, toggleTcp);
  layOut();
  redraw();
  showTotals(session, chart.theme);
  showSelected();
}

function toggleTcp(tcp) {
  if (!session.hidden.delete(tcp)) session.hidden.add(tcp);
  refresh();
}

function toggleAll(isShown) {
  session.hidden = new Set(isShown ? [] : session.tcps);
  refresh();
}

/** Whether stepping stops at an event. */
function isStop(event) {
  const tcp = tcpOf(event);
  return session.has(event) && chosen.groups.has(groupOf(event)) && !(tcp !== null && session.hidden.has(tcp));
}

/** The next event in a direction that stepping stops at; `event` itself does not count. */
function nextStop(event, step) {
  for (let at = event + step; at >= 0 && at < eventCount; at += step) if (isStop(at)) return at;
  return null;
}

/** `isPointed`: its place is in sight already. */
function select(event, isPointed = false) {
  if (event === null || event < 0 || event >= eventCount) return;
  chart.selected = event;
  chart.reveal(columns.t[event]);
  if (!isPointed) revealRow(tcpOf(event));
  redraw();
  showSelected();
  remember();
}

/** Scrolls so that the row of a TCP connection is in sight, if the chart is higher than a window. */
function revealRow(tcp) {
  const row = chart.isTall ? chart.tcpRows.find((row) => row.lane.id === tcp) : undefined;
  if (!row) return;
  const top = byId("chart").getBoundingClientRect().top + scrollY;
  const isInSight = top + row.top - chart.pinnedHeight >= scrollY && top + row.top + row.height <= scrollY + innerHeight;
  if (!isInSight) scrollTo(scrollX, top + row.top - innerHeight / 2);
}

function showSelected() {
  const event = chart.selected;
  const around = [];
  if (event !== null) {
    for (let at = event, left = 4; left > 0 && (at = nextStop(at, -1)) !== null; left--) around.unshift(at);
    around.push(event);
    for (let at = event, left = 7; left > 0 && (at = nextStop(at, 1)) !== null; left--) around.push(at);
  }
  showEvent(event, around, select);
  const end = event === null ? undefined : session.ends.includes(columns.end[event]) ? columns.end[event] : session.seen;
  showState(event, end, states.get(end), chart.theme);
  markStory(moments, event);
}

function stepEvent(step) {
  if (chart.selected !== null) return select(nextStop(chart.selected, step));
  // Begin where the chart does.
  select(nextStop(lowerBound(columns.t, chart.from) - (step > 0 ? 1 : 0), step));
}

function stepMoment(step) {
  const at = chart.selected ?? (step > 0 ? -1 : eventCount);
  const events = moments.map((number) => trace.story[number][2]);
  const next = step > 0 ? events.find((event) => event > at) : events.findLast((event) => event < at);
  if (next !== undefined) select(next);
}

function zoom(factor, t) {
  chart.zoom(factor, t);
  redraw();
  remember();
}

function move(part) {
  chart.move(part * chart.span);
  redraw();
  remember();
}
function fitAll() {
  chart.show(0, chart.full);
  redraw();
  remember();
}
function switchTheme() {
  setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  refresh();
}

function connectControls() {
  const change = (id, then) => byId(id).addEventListener("change", () => then(byId(id).value));
  change("session", (value) => {
    Object.assign(chosen, { session: Number(value), seen: null, way: 0, stream: "" });
    chart.selected = null;
    openSession();
    remember();
  });
  change("seen", (value) => {
    chosen.seen = Number(value);
    openSession();
  });
  change("way", (value) => {
    chosen.way = Number(value);
    showStreams();
    refresh();
  });
  change("stream", (value) => {
    chosen.stream = value;
    refresh();
  });
  byId("zoom-in").addEventListener("click", () => zoom(0.6));
  byId("zoom-out").addEventListener("click", () => zoom(1 / 0.6));
  byId("zoom-fit").addEventListener("click", fitAll);
  byId("before").addEventListener("click", () => stepEvent(-1));
  byId("after").addEventListener("click", () => stepEvent(1));
  byId("theme").addEventListener("click", switchTheme);
  byId("help-open").addEventListener("click", () => byId("help").showModal());
  byId("groups").replaceChildren(...Object.entries(GROUPS).map(([group, name]) => {
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      if (box.checked) chosen.groups.add(group);
      else chosen.groups.delete(group);
      showSelected();
    });
    return make("label", {}, box, ` ${name}`);
  }));
  byId("tcps-all").addEventListener("click", () => toggleAll(true));
  byId("tcps-none").addEventListener("click", () => toggleAll(false));
  new ResizeObserver(redraw).observe(byId("chart"));
  const follow = () => chart.isTall && redraw();
  addEventListener("scroll", follow, { passive: true });
  addEventListener("resize", follow);
}

/** Paper is white, whatever the screen is. */
function connectPrinter() {
  let before = null;
  addEventListener("beforeprint", () => {
    before = document.documentElement.dataset.theme;
    setTheme("light");
    chart.isOnPaper = true;
    const missing = chart.rows.length - chart.onPaper.length;
    byId("paper").textContent = missing > 0 ? `There is no room on paper for ${plural(missing, "more row")}; hide TCP connections before printing.` : "";
    refresh();
    drawNow();
  });
  addEventListener("afterprint", () => {
    setTheme(before);
    chart.isOnPaper = false;
    byId("paper").textContent = "";
    refresh();
    drawNow();
  });
}

function start() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  setTheme(dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => {
    setTheme(dark.matches ? "dark" : "light");
    refresh();
  });
  const seed = trace.seed === null ? "" : `seed ${trace.seed} · `;
  byId("subtitle").textContent = `${seed}${moment(trace.end)} · ${plural(eventCount, "event")} · ${plural(trace.sessions.length, "session")}`;
  recall();
  connectControls();
  connectMouse();
  connectKeyboard();
  connectPrinter();
  openSession();
  drawNow();
  const took = performance.now();
  byId("footer").textContent = `Made by tcpls ${trace.version}. Shown in ${(took / 1000).toFixed(2)} s.`;
  document.documentElement.dataset.ready = Math.round(took);
}

start();
