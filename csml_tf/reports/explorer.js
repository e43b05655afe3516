"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const [canvas, lens, side, legend] = ["plane", "lens", "side", "legend"].map(byId);
const NUM_SHOWN = 60;  // Of chosen images, beside the map.

function decode(text, kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new kind(bytes.buffer);
}

const count = data.paths.length;
const labels = decode(data.labels, Uint16Array);
const positions = decode(data.positions, Uint16Array);
const nearest = decode(data.nearest, Uint16Array);
const cosines = decode(data.cosines, Int16Array);
const plane = new Plane(canvas, {
  count,
  labels,
  x: Float32Array.from({ length: count }, (_, i) => positions[2 * i] / 65535),
  y: Float32Array.from({ length: count }, (_, i) => positions[2 * i + 1] / 65535),
  looks: data.classes.map(([, color, shape]) => [color, shape]),
  sprite: byId("sprite"),
  size: data.size,
  columns: data.columns,
});

const className = (i) => data.classes[labels[i]][0];
const fileName = (i) => data.paths[i].replace(/^.*[/\\]/, "");

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function thumbnail(i, side) {
  const picture = element("canvas", { width: side, height: side });
  plane.drawImage(picture.getContext("2d"), i, 0, 0, side);
  return picture;
}

// What is under the pointer.
function hover(i) {
  lens.hidden = i < 0;
  if (i < 0) return;
  plane.drawImage(lens.querySelector("canvas").getContext("2d"), i, 0, 0, 112);
  lens.querySelector("p").textContent = `${className(i)}, ${data.sets[i]}, ${fileName(i)}`;
  const [x, y] = plane.place(i);
  const left = x > plane.width / 2 ? x - lens.offsetWidth - 14 : x + 14;
  lens.style.left = `${Math.max(0, Math.min(left, plane.width - lens.offsetWidth))}px`;
  lens.style.top =
    `${Math.max(0, Math.min(y - lens.offsetHeight / 2, plane.height - lens.offsetHeight))}px`;
}

function tile(i, words) {
  const button = element("button", { type: "button", title: `${className(i)}\n${data.paths[i]}` },
    thumbnail(i, 128), ...words.map((text) => element("span", { textContent: text })));
  button.dataset.i = i;
  button.style.borderColor = plane.looks[labels[i]][0];
  button.addEventListener("click", () => pick(i));
  return button;
}

function tiles(indices, words) {
  return element("div", { className: "near" }, ...indices.map((i, n) => tile(i, words(i, n))));
}

// An image with its nearest, beside the map.
function pick(i) {
  plane.picked = i;
  const start = i * data.nearestCount;
  plane.nearest = i < 0 ? [] : [...nearest.subarray(start, start + data.nearestCount)];
  plane.request();
  if (i < 0) return showChosen();
  side.replaceChildren(
    element("div", { className: "picked" },
      element("div", { className: "picture" }, thumbnail(i, 132)),
      element("p", {}, element("strong", { textContent: className(i) }), element("br"),
        `${data.sets[i]} image`, element("br"), data.paths[i])),
    element("h2", { textContent: `The ${data.nearestCount} nearest` }),
    tiles(plane.nearest, (j, n) => [(cosines[start + n] / 10000).toFixed(3), className(j)]),
  );
  side.scrollTop = 0;
}

const chosen = () => [...plane.chosen.keys()].filter((i) => plane.chosen[i]);
const hint = side.firstElementChild;

function showChosen() {
  const indices = chosen();
  if (!indices.length) return side.replaceChildren(hint);
  const rest = indices.length > NUM_SHOWN ? `, the first ${NUM_SHOWN}` : "";
  side.replaceChildren(
    element("h2", { textContent: `${indices.length.toLocaleString("en")} chosen${rest}` }),
    tiles(indices.slice(0, NUM_SHOWN), (i) => [className(i), fileName(i)]),
  );
}

function choose(indices) {
  plane.choose(indices);
  byId("count").textContent =
    indices.length ? `${indices.length.toLocaleString("en")} chosen` : "";
  byId("save").disabled = byId("clear").disabled = !indices.length;
  pick(-1);
}

function csv(indices) {
  const cell = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = indices.map((i) => [data.paths[i], className(i), data.sets[i]]);
  return [["path", "class", "set"], ...rows].map((row) => row.map(cell).join(",") + "\n").join("");
}

byId("save").addEventListener("click", () => {
  const address = URL.createObjectURL(new Blob([csv(chosen())], { type: "text/csv" }));
  element("a", { href: address, download: "chosen_images.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
});
byId("clear").addEventListener("click", () => choose([]));
byId("closer").addEventListener("click", () => plane.zoom(1.5));
byId("farther").addEventListener("click", () => plane.zoom(1 / 1.5));
byId("whole").addEventListener("click", () => plane.fit());

let drawing = false;
function setLasso(on) {
  drawing = on;
  byId("lasso").setAttribute("aria-pressed", on);
  byId("move").setAttribute("aria-pressed", !on);
  canvas.classList.toggle("lasso", on);
}
byId("lasso").addEventListener("click", () => setLasso(true));
byId("move").addEventListener("click", () => setLasso(false));

// One pointer moves the map or draws the lasso, two zoom.
const pointers = new Map();
let travelled = 0;
const spot = (event) => {
  const frame = canvas.getBoundingClientRect();
  return [event.clientX - frame.x, event.clientY - frame.y];
};
const span = () => {
  const [[ax, ay], [bx, by]] = [...pointers.values()];
  return { x: (ax + bx) / 2, y: (ay + by) / 2, length: Math.hypot(ax - bx, ay - by) || 1 };
};
canvas.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  if (event.isTrusted) canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, spot(event));
  travelled = pointers.size > 1 ? Infinity : 0;
  plane.path = pointers.size === 1 && (drawing || event.shiftKey) ? [spot(event)] : null;
  hover(-1);
});
canvas.addEventListener("pointermove", (event) => {
  const [x, y] = spot(event);
  const last = pointers.get(event.pointerId);
  if (!last) return hover(plane.find(x, y));
  const before = pointers.size > 1 ? span() : null;
  pointers.set(event.pointerId, [x, y]);
  travelled += Math.hypot(x - last[0], y - last[1]);
  if (before) {
    const after = span();
    plane.pan(after.x - before.x, after.y - before.y);
    plane.zoom(after.length / before.length, after.x, after.y);
  } else if (plane.path) {
    plane.path.push([x, y]);
    plane.request();
  } else plane.pan(x - last[0], y - last[1]);
});
const release = (event) => {
  if (!pointers.delete(event.pointerId)) return;
  const path = plane.path;
  plane.path = null;
  plane.request();
  if (event.type === "pointercancel") return;
  if (travelled < 5) {
    const found = plane.find(...spot(event));
    pick(found);
    if (event.pointerType === "touch") hover(found);
  } else if (path) choose(plane.inside(path));
};
canvas.addEventListener("pointerup", release);
canvas.addEventListener("pointercancel", release);
canvas.addEventListener("pointerleave", () => hover(-1));
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  hover(-1);
  const lines = event.deltaMode === 1 ? 16 : 1;
  plane.zoom(Math.exp(-event.deltaY * lines / 400), ...spot(event));
}, { passive: false });

const KEYS = {
  "+": () => plane.zoom(1.5), "=": () => plane.zoom(1.5), "-": () => plane.zoom(1 / 1.5),
  "0": () => plane.fit(), ArrowLeft: () => plane.pan(60, 0), ArrowRight: () => plane.pan(-60, 0),
  ArrowUp: () => plane.pan(0, 60), ArrowDown: () => plane.pan(0, -60),
};
canvas.addEventListener("keydown", (event) => {
  if (!KEYS[event.key] || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  KEYS[event.key]();
});
addEventListener("keydown", (event) => { if (event.key === "Escape") choose([]); });

// A class can be hidden, and pointing at it shows it alone.
function addToLegend([name, color, shape], label) {
  const mark = element("canvas", { width: 28, height: 28 });
  const context = mark.getContext("2d");
  context.translate(14, 14);
  Plane.drawShape(context, [color, shape], 10);
  const button = element("button", { type: "button" }, mark, name);
  button.setAttribute("aria-pressed", true);
  button.title = "Click to hide or show";
  button.addEventListener("click", () => {
    plane.shown[label] = !plane.shown[label];
    button.setAttribute("aria-pressed", plane.shown[label]);
    plane.request();
  });
  button.addEventListener("pointerenter", () => { plane.focus = label; plane.request(); });
  button.addEventListener("pointerleave", () => { plane.focus = -1; plane.request(); });
  legend.append(element("li", {}, button));
}
if (data.classes.length > 1) data.classes.forEach(addToLegend);

byId("sprite").decode().catch(() => {}).then(() => {
  plane.request();
  document.body.dataset.ready = "yes";
});
