"""How the page of a report looks, on screens and on paper."""

STYLE = """
:root { --ink: #222; --soft: #666; --line: #e3e3e3; --accent: #2f6db5; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0 auto; max-width: 1040px; padding: 40px 28px 60px; background: #fff;
  color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
  "DejaVu Sans", sans-serif; }
h1 { margin: 0; font-size: 32px; line-height: 1.2; letter-spacing: -0.01em; }
h2 { margin: 0 0 12px; font-size: 20px; }
.lead { margin: 4px 0 24px; color: var(--soft); font-size: 18px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 16px;
  margin-bottom: 24px; }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: 14px 16px; }
.tile strong { display: block; font-size: 26px; line-height: 1.2; font-weight: 600; }
.tile span { display: block; }
.tile small { display: block; margin-top: 6px; color: var(--soft); font-size: 12.5px;
  line-height: 1.4; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; }
th, td { text-align: left; vertical-align: top; padding: 5px 14px 5px 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
.facts th { width: 130px; color: var(--soft); font-weight: normal; }
.cards td:first-child { width: 30%; }
nav { margin: 22px 0 8px; font-size: 14.5px; }
nav a { margin-right: 18px; white-space: nowrap; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
section { margin-top: 44px; }
section > p { max-width: 72ch; margin: 0 0 14px; }
figure { margin: 0 0 20px; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figure.curves img, figure.sheet img { width: 100%; margin: 0; }
figure.sheet img { max-width: 860px; }
figcaption { max-width: 85ch; margin-top: 8px; color: var(--soft); font-size: 14px;
  line-height: 1.45; }
.left-out { padding: 10px 14px; background: #f6f6f4; border-radius: 6px; color: #555;
  font-size: 14.5px; overflow-wrap: anywhere; }
.warning { padding: 10px 14px; background: #fdf3e1; border-radius: 6px; }
details summary { cursor: pointer; color: var(--accent); font-size: 13px; }
pre { margin: 8px 0 0; padding: 12px 14px; background: #f8f8f7; border-radius: 6px;
  overflow-x: auto; font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", Consolas, monospace; }
.map { position: relative; border: 1px solid var(--line); border-radius: 8px; }
.map svg { display: block; width: 100%; max-height: 86vh; }
.map use { stroke: #fff; stroke-width: 1; cursor: crosshair; }
.map use[data-i]:hover { stroke: #000; stroke-width: 2; }
.lens { position: absolute; padding: 8px; background: #fff; border: 1px solid #ccc;
  border-radius: 6px; box-shadow: 0 3px 14px rgb(0 0 0 / 18%); pointer-events: none; }
.lens .thumbnail { background-repeat: no-repeat; }
.lens p { margin: 6px 0 0; width: 112px; font-size: 12px; line-height: 1.3;
  overflow-wrap: anywhere; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 16px; margin: 10px 0 0; padding: 0;
  list-style: none; font-size: 14px; }
.legend li { display: flex; align-items: center; gap: 5px; cursor: default; }
.legend svg { width: 14px; height: 14px; }
footer { margin-top: 60px; padding-top: 14px; border-top: 1px solid var(--line);
  color: var(--soft); font-size: 13px; }
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; }
  nav, .lens { display: none; }
  figure, .map, .tile, tr { break-inside: avoid; }
  h2 { break-after: avoid; }
  .map svg { max-height: 17cm; }
  figure.sheet img { max-height: 20cm; width: auto; max-width: 100%; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
