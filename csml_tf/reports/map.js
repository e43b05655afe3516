"use strict";
for (const map of document.querySelectorAll(".map")) {
  const lens = map.querySelector(".lens");
  const thumbnail = lens.querySelector(".thumbnail");
  const columns = Number(map.dataset.columns);
  const size = Number(map.dataset.lens);
  const dots = [...map.querySelectorAll("use[data-i]")];
  for (const dot of dots) {
    // The lens says it; else the browser would say it a second time.
    dot.dataset.text = dot.querySelector("title").textContent;
    dot.querySelector("title").remove();
  }
  const show = (event) => {
    const dot = event.target.closest("use[data-i]");
    lens.hidden = !dot;
    if (!dot) return;
    const i = Number(dot.dataset.i);
    thumbnail.style.backgroundPosition =
      `${-(i % columns) * size}px ${-Math.floor(i / columns) * size}px`;
    lens.querySelector("p").textContent = dot.dataset.text;
    const frame = map.getBoundingClientRect();
    const spot = dot.getBoundingClientRect();
    const x = spot.x + spot.width / 2 - frame.x;
    const y = spot.y + spot.height / 2 - frame.y;
    lens.style.left = `${x > frame.width / 2 ? x - lens.offsetWidth - 14 : x + 14}px`;
    lens.style.top = `${Math.min(Math.max(y - lens.offsetHeight / 2, 0),
                                 Math.max(frame.height - lens.offsetHeight, 0))}px`;
  };
  map.addEventListener("pointerover", show);
  map.addEventListener("click", show);
  map.addEventListener("pointerleave", () => { lens.hidden = true; });
  const legend = map.parentElement.querySelector(".legend");
  if (legend) {
    const dim = (label) => {
      for (const dot of dots) {
        dot.style.opacity = label === undefined || dot.dataset.c === label ? "" : 0.07;
      }
    };
    legend.addEventListener("pointerover", (event) => dim(event.target.closest("li")?.dataset.c));
    legend.addEventListener("pointerleave", () => dim(undefined));
  }
  map.dataset.ready = "yes";
}
