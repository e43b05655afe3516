"use strict";
// The map on its canvas: where one looks, how it is drawn, what lies at a place.
class Plane {
  // data: {count, x, y: in [0, 1], labels, looks: [[color, shape]] by label, sprite, size, columns}
  constructor(canvas, data) {
    Object.assign(this, data);
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.shown = this.looks.map(() => true);
    this.chosen = new Uint8Array(this.count);
    this.numChosen = 0;
    this.picked = -1;
    this.nearest = [];
    this.focus = -1;
    this.path = null;
    this.stamps = new Map();
    this.visible = new Int32Array(this.count);
    this.isWhole = true;  // Until somebody looks closer or elsewhere.
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  resize() {
    const before = [this.width, this.height];
    const ratio = devicePixelRatio || 1;
    [this.width, this.height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    this.canvas.width = Math.max(1, Math.round(this.width * ratio));
    this.canvas.height = Math.max(1, Math.round(this.height * ratio));
    this.ratio = ratio;
    this.stamps.clear();
    if (this.isWhole) return this.fit();
    this.pan((this.width - before[0]) / 2, (this.height - before[1]) / 2);
  }

  fit() {
    const margin = 24;
    const [wide, high] = [this.x, this.y].map((values) => values.reduce((a, b) => Math.max(a, b)));
    this.whole = Math.max(1, Math.min((this.width - 2 * margin) / (wide || 1),
                                      (this.height - 2 * margin) / (high || 1)));
    this.scale = this.whole;
    this.isWhole = true;
    this.left = (this.width - wide * this.scale) / 2;
    this.top = (this.height - high * this.scale) / 2;
    this.request();
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const scale = Math.min(Math.max(this.scale * factor, this.whole / 2), this.whole * 400);
    this.left = x - (x - this.left) * scale / this.scale;
    this.top = y - (y - this.top) * scale / this.scale;
    this.scale = scale;
    this.isWhole = false;
    this.request();
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.isWhole = false;
    this.request();
  }

  place(i) {
    return [this.left + this.x[i] * this.scale, this.top + this.y[i] * this.scale];
  }

  // The shown image at a place, or -1.
  find(x, y) {
    const reach = this.thumbnailPx ? this.thumbnailPx * 0.7 : Math.max(this.radius, 10);
    let best = reach * reach, found = -1;
    for (let i = 0; i < this.count; i++) {
      if (!this.shown[this.labels[i]]) continue;
      const dx = this.left + this.x[i] * this.scale - x;
      const dy = this.top + this.y[i] * this.scale - y;
      const distance = dx * dx + dy * dy;
      if (distance < best) [best, found] = [distance, i];
    }
    return found;
  }

  // The shown images inside of a closed path [[x, y]], even and odd.
  inside(path) {
    const found = [];
    for (let i = 0; i < this.count; i++) {
      if (!this.shown[this.labels[i]]) continue;
      const [x, y] = this.place(i);
      let odd = false;
      for (let a = 0, b = path.length - 1; a < path.length; b = a++) {
        const [[ax, ay], [bx, by]] = [path[a], path[b]];
        if ((ay > y) !== (by > y) && x < ax + (bx - ax) * (y - ay) / (by - ay)) odd = !odd;
      }
      if (odd) found.push(i);
    }
    return found;
  }

  choose(indices) {
    this.chosen.fill(0);
    for (const i of indices) this.chosen[i] = 1;
    this.numChosen = indices.length;
    this.request();
  }

  request() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  draw() {
    const context = this.context;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#fff";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    const count = this.collect();
    const room = this.width * this.height;
    // Of few images in sight: the images themselves.
    const most = Math.sqrt(room / Math.max(count, 1)) * 0.6;
    this.thumbnailPx = most >= 30 ? Math.min(most, 64) : 0;
    const zoomed = Math.pow(this.scale / this.whole, 0.4);
    const spacing = Math.sqrt(room / this.count);
    this.radius = Math.round(2 * Math.min(Math.max(spacing * 0.3, 2) * zoomed, 6)) / 2;
    this.drawLines();
    if (this.numChosen) {
      this.drawAll(count, (i) => !this.chosen[i], 0.25);
      this.drawAll(count, (i) => this.chosen[i], 1);
    } else if (this.focus >= 0) {
      this.drawAll(count, (i) => this.labels[i] !== this.focus, 0.12);
      this.drawAll(count, (i) => this.labels[i] === this.focus, 1);
    } else {
      this.drawAll(count, null, 1);
    }
    this.drawRings();
    this.drawPath();
  }

  // Fills `visible` with the images in sight and returns how many they are.
  collect() {
    const margin = 32;
    let count = 0;
    for (let i = 0; i < this.count; i++) {
      if (!this.shown[this.labels[i]]) continue;
      const x = this.left + this.x[i] * this.scale, y = this.top + this.y[i] * this.scale;
      if (x > -margin && y > -margin && x < this.width + margin && y < this.height + margin) {
        this.visible[count++] = i;
      }
    }
    return count;
  }

  drawAll(count, wanted, alpha) {
    const context = this.context;
    context.globalAlpha = alpha;
    for (let n = 0; n < count; n++) {
      const i = this.visible[n];
      if (wanted && !wanted(i)) continue;
      const x = this.left + this.x[i] * this.scale, y = this.top + this.y[i] * this.scale;
      if (this.thumbnailPx) {
        const side = this.thumbnailPx;
        context.fillStyle = this.looks[this.labels[i]][0];
        context.fillRect(x - side / 2 - 2, y - side / 2 - 2, side + 4, side + 4);
        this.drawImage(context, i, x - side / 2, y - side / 2, side);
      } else {
        const stamp = this.stamp(this.labels[i]);
        context.drawImage(stamp, x - stamp.reach, y - stamp.reach, 2 * stamp.reach,
                          2 * stamp.reach);
      }
    }
    context.globalAlpha = 1;
  }

  drawImage(context, i, x, y, side) {
    const [column, row] = [i % this.columns, Math.floor(i / this.columns)];
    context.imageSmoothingEnabled = side < 3 * this.size;
    context.drawImage(this.sprite, column * this.size, row * this.size, this.size, this.size,
                      x, y, side, side);
  }

  // A dot, drawn once and copied from then on.
  stamp(label) {
    const key = label + ":" + this.radius;
    if (!this.stamps.has(key)) {
      const reach = Math.ceil(this.radius * 1.4 + 1);
      const stamp = document.createElement("canvas");
      stamp.width = stamp.height = Math.ceil(2 * reach * this.ratio);
      stamp.reach = reach;
      const context = stamp.getContext("2d");
      context.scale(this.ratio, this.ratio);
      context.translate(reach, reach);
      Plane.drawShape(context, this.looks[label], this.radius);
      this.stamps.set(key, stamp);
    }
    return this.stamps.get(key);
  }

  static drawShape(context, [color, shape], radius) {
    const corners = {
      square: [[-0.85, -0.85], [0.85, -0.85], [0.85, 0.85], [-0.85, 0.85]],
      triangle: [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]],
      diamond: [[0, -1.3], [1.1, 0], [0, 1.3], [-1.1, 0]],
    }[shape];
    context.beginPath();
    if (corners) for (const [x, y] of corners) context.lineTo(x * radius, y * radius);
    else context.arc(0, 0, radius, 0, 2 * Math.PI);
    context.closePath();
    context.fillStyle = color;
    context.fill();
    context.lineWidth = radius > 2 ? 0.8 : 0.4;
    context.strokeStyle = "#fff";
    context.stroke();
  }

  drawLines() {
    const context = this.context;
    context.strokeStyle = "#888";
    context.lineWidth = 1;
    context.beginPath();
    for (const i of this.picked < 0 ? [] : this.nearest) {
      context.moveTo(...this.place(this.picked));
      context.lineTo(...this.place(i));
    }
    context.stroke();
  }

  drawRings() {
    const context = this.context;
    for (const i of this.picked < 0 ? [] : [...this.nearest, this.picked]) {
      const [x, y] = this.place(i);
      context.lineWidth = i === this.picked ? 3 : 1.5;
      context.strokeStyle = "#000";
      context.beginPath();
      if (this.thumbnailPx) {
        const side = this.thumbnailPx + 6;
        context.rect(x - side / 2, y - side / 2, side, side);
      } else context.arc(x, y, this.radius + 3, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  drawPath() {
    if (!this.path) return;
    const context = this.context;
    context.beginPath();
    for (const [x, y] of this.path) context.lineTo(x, y);
    context.closePath();
    context.fillStyle = "rgb(47 109 181 / 12%)";
    context.strokeStyle = "#2f6db5";
    context.lineWidth = 1.5;
    context.fill();
    context.stroke();
  }
}
