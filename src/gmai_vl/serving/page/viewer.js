// The picture on view: drawn at the screen's own resolution with the pixels' true proportions, a mark, and boxes.

const STEP = 0.02;
const LEAST = 0.02;

export class Viewer extends EventTarget {
  #canvas; #stage; #bitmap = null; #proportion = 1; #boxes = []; #from = null;
  mark = null;  // [x1, y1, x2, y2], shares of width and height

  constructor(canvas, stage) {
    super();
    this.#canvas = canvas;
    this.#stage = stage;
    new ResizeObserver(() => this.#draw()).observe(stage);
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    canvas.addEventListener("pointerup", () => this.#end());
    canvas.addEventListener("pointercancel", () => this.#end());
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  // `pitch` is [row, column] in mm where it is known.
  async show(blob, pitch) {
    this.#bitmap = await createImageBitmap(blob);
    this.#proportion = (this.#bitmap.width * (pitch?.[1] ?? 1)) / (this.#bitmap.height * (pitch?.[0] ?? 1));
    this.#canvas.hidden = false;
    this.#draw();
  }

  boxes(boxes) {
    this.#boxes = boxes;
    this.#draw();
  }

  place(mark) {
    this.mark = mark;
    this.#draw();
    this.dispatchEvent(new Event("marked"));
  }

  #share(event) {
    const frame = this.#canvas.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    return [within((event.clientX - frame.left) / frame.width), within((event.clientY - frame.top) / frame.height)];
  }

  #begin(event) {
    this.#canvas.setPointerCapture(event.pointerId);
    this.#from = this.#share(event);
  }

  #drag(event) {
    if (!this.#from) return;
    const [x, y] = this.#share(event);
    const [left, top] = this.#from;
    const mark = [Math.min(x, left), Math.min(y, top), Math.max(x, left), Math.max(y, top)];
    if (mark[2] - mark[0] >= LEAST && mark[3] - mark[1] >= LEAST) this.place(mark);
  }

  #end() { this.#from = null; }

  #key(event) {
    const ways = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] };
    if (event.key === "m" || event.key === "M") this.place(this.mark ?? [0.35, 0.35, 0.65, 0.65]);
    else if (event.key === "Escape" && this.mark) this.place(null);
    else if (event.key === "PageUp" || event.key === "PageDown") {
      this.dispatchEvent(new CustomEvent("leaf", { detail: event.key === "PageUp" ? 1 : -1 }));
    } else if (ways[event.key] && this.mark) {
      const [x, y] = ways[event.key];
      let [x1, y1, x2, y2] = this.mark;
      if (event.shiftKey) {
        x2 = Math.min(1, Math.max(x1 + LEAST, x2 + x));
        y2 = Math.min(1, Math.max(y1 + LEAST, y2 + y));
      } else {
        const dx = Math.min(1 - x2, Math.max(-x1, x));
        const dy = Math.min(1 - y2, Math.max(-y1, y));
        [x1, x2, y1, y2] = [x1 + dx, x2 + dx, y1 + dy, y2 + dy];
      }
      this.place([x1, y1, x2, y2]);
    } else return;
    event.preventDefault();
  }

  #draw() {
    if (!this.#bitmap) return;
    const room = this.#stage.getBoundingClientRect();
    const width = Math.min(room.width, room.height * this.#proportion);
    const dots = window.devicePixelRatio || 1;
    this.#canvas.style.width = `${width}px`;
    this.#canvas.style.height = `${width / this.#proportion}px`;
    this.#canvas.width = Math.round(width * dots);
    this.#canvas.height = Math.round((width / this.#proportion) * dots);
    const pen = this.#canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.drawImage(this.#bitmap, 0, 0, this.#canvas.width, this.#canvas.height);
    this.#boxes.forEach(({ label, box }, index) => this.#frame(pen, box, "#ffd166", `${index + 1} ${label}`.trim(), dots));
    if (this.mark) this.#frame(pen, this.mark, "#4cc9f0", "", dots);
  }

  #frame(pen, [x1, y1, x2, y2], colour, label, dots) {
    const { width, height } = this.#canvas;
    const place = [x1 * width, y1 * height, (x2 - x1) * width, (y2 - y1) * height];
    pen.lineWidth = 5 * dots;
    pen.strokeStyle = "#000";
    pen.strokeRect(...place);
    pen.lineWidth = 2.5 * dots;
    pen.strokeStyle = colour;
    pen.strokeRect(...place);
    if (!label) return;
    pen.font = `${13 * dots}px system-ui, sans-serif`;
    const wide = pen.measureText(label).width + 8 * dots;
    const top = Math.max(0, place[1] - 20 * dots);
    pen.fillStyle = "#000";
    pen.fillRect(place[0], top, wide, 20 * dots);
    pen.fillStyle = colour;
    pen.fillText(label, place[0] + 4 * dots, top + 14.5 * dots);
  }
}
