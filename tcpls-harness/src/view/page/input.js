// What the mouse and the keyboard do, and what the address of the page says.

function showTip(row, t, x, y) {
  const found = row?.hover?.(t, y, chart) ?? null;
  byId("tip").hidden = found === null;
  if (found === null) return;
  byId("tip").textContent = `${moment(t, chart.span)}\n${found.text}`;
  const width = byId("tip").offsetWidth;
  byId("tip").style.left = `${x + width + 24 > chart.width ? x - width - 14 : x + 14}px`;
  byId("tip").style.top = `${Math.max(4, Math.min(y + 12, chart.height - byId("tip").offsetHeight - 4))}px`;
}

function connectMouse() {
  const { canvas } = chart;
  let drag = null;
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, chart.inChart(event.clientY - box.top)];
  };
  canvas.addEventListener("pointerdown", (event) => {
    const [x, y] = place(event);
    const row = chart.rowAt(y);
    drag = { x, start: x, row, from: chart.from, to: chart.to, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = place(event);
    if (drag === null) {
      chart.pointer = x >= GUTTER && x <= GUTTER + chart.plotWidth ? chart.t(x) : null;
      showTip(chart.pointer === null || chart.rowAt(y) instanceof Overview ? null : chart.rowAt(y), chart.t(x), x, y);
    } else {
      drag.moved ||= Math.abs(x - drag.start) > 3;
      if (drag.moved) {
        byId("tip").hidden = true;
        if (drag.row instanceof Overview || drag.row instanceof Axis) drag.range = [drag.start, x].sort((a, b) => a - b);
        else chart.move(((drag.x - x) / chart.plotWidth) * chart.span);
      }
      drag.x = x;
    }
    redraw();
    if (drag?.range) requestAnimationFrame(() => {
      const [left, right] = drag?.range ?? [0, 0];
      chart.context.fillStyle = chart.theme.select;
      chart.context.fillRect(left, drag?.row.top ?? 0, right - left, chart.height);
    });
  });
  canvas.addEventListener("pointerup", (event) => {
    const [x, y] = place(event);
    const { row, moved, range } = drag ?? {};
    drag = null;
    if (range && range[1] - range[0] > 3) {
      const at = row instanceof Overview ? (x) => row.timeAt(x, chart) : (x) => chart.t(x);
      chart.show(at(range[0]), at(range[1]));
    } else if (!moved && row instanceof Overview) {
      chart.move(row.timeAt(x, chart) - (chart.from + chart.to) / 2);
    } else if (!moved && x >= GUTTER) {
      const near = row?.hover?.(chart.t(x), y, chart)?.event ?? null;
      const t = lowerBound(columns.t, chart.t(x));
      select(near ?? (t < eventCount && isStop(t) ? t : (nextStop(t, 1) ?? nextStop(t, -1))), true);
    }
    redraw();
    remember();
  });
  canvas.addEventListener("pointercancel", () => (drag = null));
  canvas.addEventListener("pointerleave", () => {
    chart.pointer = null;
    byId("tip").hidden = true;
    redraw();
  });
  canvas.addEventListener("dblclick", (event) => zoom(0.4, chart.t(place(event)[0])));
  canvas.addEventListener("wheel", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) {
      event.preventDefault();
      zoom(Math.exp(event.deltaY * 0.002), chart.t(place(event)[0]));
    } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      chart.move((event.deltaX / chart.plotWidth) * chart.span);
      redraw();
    }
  }, { passive: false });
}

const KEYS = {
  ArrowLeft: () => move(-0.2),
  ArrowRight: () => move(0.2),
  "+": () => zoom(0.6),
  "=": () => zoom(0.6),
  "-": () => zoom(1 / 0.6),
  "0": () => fitAll(),
  n: () => stepEvent(1),
  p: () => stepEvent(-1),
  "]": () => stepMoment(1),
  "[": () => stepMoment(-1),
  Home: () => select(nextStop(-1, 1)),
  End: () => select(nextStop(eventCount, -1)),
  t: () => switchTheme(),
  "?": () => byId("help").showModal(),
};

/** Keys that scroll what has the focus, if it scrolls. */
const SCROLLING = ["ArrowLeft", "ArrowRight", "Home", "End"];

function connectKeyboard() {
  document.addEventListener("keydown", (event) => {
    const isTyping = ["SELECT", "INPUT"].includes(event.target.tagName) || byId("help").open;
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
    if (SCROLLING.includes(event.key) && event.target.closest?.(".scrolls, #story, #tcps")) return;
    // Speech is heard as single characters: they can be turned off.
    if (event.key.length === 1 && !byId("keys").checked && event.target !== chart.canvas) return;
    event.preventDefault();
    KEYS[event.key]();
  });
}

/** The address names what is shown, so that it can be kept and passed on. */
function remember() {
  const parts = new URLSearchParams();
  if (chart.span < chart.full) {
    parts.set("from", (chart.from / 1e9).toFixed(9));
    parts.set("to", (chart.to / 1e9).toFixed(9));
  }
  if (chart.selected !== null) parts.set("event", chart.selected + 1);
  if (chosen.session !== 0) parts.set("session", chosen.session);
  // Some browsers refuse this for files.
  try {
    history.replaceState(null, "", `#${parts}`);
  } catch {}
}

function recall() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const number = (name) => (parts.has(name) && Number.isFinite(Number(parts.get(name))) ? Number(parts.get(name)) : null);
  const wanted = number("session");
  if (wanted !== null && trace.sessions[wanted]) chosen.session = wanted;
  if (["light", "dark"].includes(parts.get("theme"))) setTheme(parts.get("theme"));
  const [from, to, event] = [number("from"), number("to"), number("event")];
  if (from !== null && to !== null && from < to) chart.show(from * 1e9, to * 1e9);
  if (event !== null && Number.isInteger(event) && event >= 1 && event <= eventCount) chart.selected = event - 1;
}
