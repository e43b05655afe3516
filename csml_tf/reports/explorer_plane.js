"use strict";
// The map on its canvas: where one looks, how it is drawn, what lies at a place.
const FAINT = 0.2;  // How strong a dot is beside those that are meant.

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
    this.pixels = this.context.createImageData(this.canvas.width, this.canvas.height);
    this.words = new Uint32Array(this.pixels.data.buffer);
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
    const xs = Float64Array.from(path, (place) => place[0]);
    const ys = Float64Array.from(path, (place) => place[1]);
    const [least, most] = [Math.min, Math.max].map((end) => ys.reduce((a, b) => end(a, b)));
    for (let i = 0; i < this.count; i++) {
      const x = this.left + this.x[i] * this.scale, y = this.top + this.y[i] * this.scale;
      if (y < least || y > most || !this.shown[this.labels[i]]) continue;
      let odd = false;
      for (let a = 0, b = xs.length - 1; a < xs.length; b = a++) {
        if ((ys[a] > y) !== (ys[b] > y) &&
            x < xs[a] + (xs[b] - xs[a]) * (y - ys[a]) / (ys[b] - ys[a])) odd = !odd;
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
    const count = this.collect();
    const room = this.width * this.height;
    // Of few images in sight: the images themselves.
    const most = Math.sqrt(room / Math.max(count, 1)) * 0.6;
    this.thumbnailPx = most >= 22 ? Math.min(most, 64) : 0;
    const zoomed = Math.pow(this.scale / this.whole, 0.4);
    const spacing = Math.sqrt(room / this.count);
    this.radius = Math.round(2 * Math.min(Math.max(spacing * 0.3, 2) * zoomed, 6)) / 2;
    this.words.fill(0xffffffff);
    const isPlain = !this.numChosen && this.focus < 0;
    const stands = (i) => (this.numChosen ? this.chosen[i] : this.labels[i] === this.focus);
    const drawOne = this.thumbnailPx ? this.drawThumbnail : this.drawDot;
    if (this.thumbnailPx) this.show();
    for (const strong of isPlain ? [true] : [false, true]) {
      context.globalAlpha = strong ? 1 : FAINT;
      for (let n = 0; n < count; n++) {
        const i = this.visible[n];
        if (isPlain || !stands(i) === !strong) drawOne.call(this, i, strong);
      }
    }
    context.globalAlpha = 1;
    if (!this.thumbnailPx) this.show();
    this.drawLines();
    this.drawRings();
    this.drawPath();
  }

  // What `words` holds goes to the canvas: a pixel each, in the order of its bytes.
  show() {
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.putImageData(this.pixels, 0, 0);
    this.context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
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

  drawThumbnail(i) {
    const context = this.context, side = this.thumbnailPx;
    const x = this.left + this.x[i] * this.scale, y = this.top + this.y[i] * this.scale;
    context.fillStyle = this.looks[this.labels[i]][0];
    context.fillRect(x - side / 2 - 2, y - side / 2 - 2, side + 4, side + 4);
    this.drawImage(context, i, x - side / 2, y - side / 2, side);
  }

  // Pixel by pixel: tens of thousands of dots are too many for the canvas' own shapes.
  drawDot(i, strong) {
    const { offsets, colors, reach } = this.stamp(this.labels[i], strong);
    const wide = this.canvas.width, high = this.canvas.height, words = this.words;
    const x = Math.round((this.left + this.x[i] * this.scale) * this.ratio);
    const y = Math.round((this.top + this.y[i] * this.scale) * this.ratio);
    if (x < reach || y < reach || x >= wide - reach || y >= high - reach) return;
    const start = y * wide + x;
    for (let n = 0; n < colors.length; n++) words[start + offsets[n]] = colors[n];
  }

  drawImage(context, i, x, y, side) {
    const [column, row] = [i % this.columns, Math.floor(i / this.columns)];
    context.imageSmoothingEnabled = side < 6 * this.size;
    context.drawImage(this.sprite, column * this.size, row * this.size, this.size, this.size,
                      x, y, side, side);
  }

  // The pixels of a dot: their places in `words` from its middle, and their colors.
  stamp(label, strong) {
    const key = (2 * label + strong) * 100 + 2 * this.radius;
    if (!this.stamps.has(key)) this.stamps.set(key, this.makeStamp(label, strong));
    return this.stamps.get(key);
  }

  makeStamp(label, strong) {
    const reach = Math.ceil((this.radius * 1.4 + 1) * this.ratio), side = 2 * reach + 1;
    const context = new OffscreenCanvas(side, side).getContext("2d");
    context.translate(reach + 0.5, reach + 0.5);
    context.scale(this.ratio, this.ratio);
    Plane.drawShape(context, this.looks[label], this.radius);
    const alphas = context.getImageData(0, 0, side, side).data;
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#fff";
    context.fillRect(-side, -side, 2 * side, 2 * side);
    if (!strong) {
      context.globalCompositeOperation = "source-over";
      context.globalAlpha = 1 - FAINT;
      context.fillRect(-side, -side, 2 * side, 2 * side);
    }
    const words = new Uint32Array(context.getImageData(0, 0, side, side).data.buffer);
    const covered = [...words.keys()].filter((n) => alphas[4 * n + 3] > 100);
    const place = (n) => (Math.floor(n / side) - reach) * this.canvas.width + n % side - reach;
    return {
      reach,
      offsets: Int32Array.from(covered, place),
      colors: Uint32Array.from(covered, (n) => words[n]),
    };
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
