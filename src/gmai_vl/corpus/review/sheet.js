"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const COLOURS = 6; // of boxes, as the style sheet knows them
const KEPT = `gmai-review-${data.review}`;

// Text from a corpus only ever gets in as text: elements are made here, never parsed from strings.
function make(tag, attributes = {}, ...children) {
  const isDrawing = ["svg", "rect", "title"].includes(tag);
  const element = isDrawing ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}
const both = (en, zh) => [make("span", { lang: "en" }, en), make("span", { lang: "zh" }, zh)];

// ---- what the rater has said, kept in this browser
const state = { rater: "", at: 0, ui: navigator.language.startsWith("zh") ? "zh" : "en", given: {} }; // given: pair -> {axis: level, comment}
try {
  Object.assign(state, JSON.parse(localStorage.getItem(KEPT) || "{}"));
} catch {
  tell("Scores cannot be kept in this browser: download them before you close the page.", "本浏览器无法保存评分：请在关闭页面前下载。");
}
function keep() {
  try {
    localStorage.setItem(KEPT, JSON.stringify(state));
  } catch {
    tell("Scores cannot be kept in this browser: download them before you close the page.", "本浏览器无法保存评分：请在关闭页面前下载。");
  }
}
const given = (pair) => (state.given[pair.pair] ??= {});
const isDone = (pair) => data.axes.every((axis) => axis in (state.given[pair.pair] || {}));

function tell(en, zh) {
  byId("told").hidden = !en;
  byId("told").replaceChildren(...both(en || "", zh || ""));
}

// ---- one pair
const MARKED = /(?:<ref>([^<>]*)<\/ref>\s*)?<box>\s*\[([^<>]*)\]\s*<\/box>/g;

// The boxes of a text, as shares of the image; what is not well formed stays text, for the rater to see.
function pieces(text, boxes) {
  const found = [];
  let from = 0;
  for (const match of text.matchAll(MARKED)) {
    const numbers = [...match[2].matchAll(/\[([^\[\]]*)\]/g)].map((one) => one[1].split(",").map(Number));
    const isWhole = numbers.length && numbers.every((one) => one.length === 4 && one.every((share) => share >= 0 && share <= 1) && one[0] < one[2] && one[1] < one[3]);
    if (!isWhole) continue;
    const colour = `c${boxes.length % COLOURS}`;
    boxes.push({ label: match[1] || "", numbers, colour });
    found.push(text.slice(from, match.index), make("span", { class: "mark" }, make("i", { class: colour }), match[1] || "", make("code", {}, numbers.map((one) => one.map((share) => share.toFixed(2)).join(" ")).join(" · "))));
    from = match.index + match[0].length;
  }
  return [...found, text.slice(from)];
}

function picture(pair, source, boxes) {
  const drawing = make("svg", { viewBox: `0 0 ${pair.width} ${pair.height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const [label, [x1, y1, x2, y2]] of pair.annotated) drawing.append(make("rect", { class: "box annotated", x: x1, y: y1, width: x2 - x1, height: y2 - y1, visibility: isAnnotationShown ? null : "hidden" }, make("title", {}, label)));
  for (const { label, numbers, colour } of boxes) for (const [x1, y1, x2, y2] of numbers)
    drawing.append(make("rect", { class: `box ${colour}`, x: x1 * pair.width, y: y1 * pair.height, width: (x2 - x1) * pair.width, height: (y2 - y1) * pair.height }, make("title", {}, label)));
  const figure = make("figure", {}, make("img", { src: source, width: pair.width, height: pair.height, alt: `image of pair ${state.at + 1}` }), drawing);
  // Higher than the window, a picture would push the text out of sight; no picture is blown up without bound.
  figure.style.maxWidth = `min(100%, ${Math.max(320, pair.width * 2)}px, calc(56vh * ${pair.width / pair.height}))`;
  return figure;
}

let isAnnotationShown = true;
function showAnnotation(isShown) {
  isAnnotationShown = isShown;
  for (const rect of document.querySelectorAll("rect.annotated")) rect.setAttribute("visibility", isShown ? "visible" : "hidden");
}

const NAMES_ZH = { modality: "模态", department: "科室", task: "临床任务", plane: "切面", "body part": "部位", size: "尺寸", labels: "标签", "nothing found": "未见异常", grade: "分级", finding: "所见", "not there": "不存在", "right answer": "正确答案" };

function question(pair, axis) {
  const { en, zh, asks_en, asks_zh } = data.rubric.axes[axis];
  const levels = data.levels.map((level) => {
    const word = data.rubric.levels[level];
    const input = make("input", { type: "radio", name: axis, value: level });
    input.checked = given(pair)[axis] === level;
    input.addEventListener("change", () => score(pair, axis, level));
    return make("label", { class: "level" }, input, make("span", {}, make("b", {}, String(level)), ...both(word.en, word.zh)));
  });
  return make("fieldset", { "data-axis": axis }, make("legend", {}, ...both(en, zh)), make("p", { class: "asks" }, ...both(asks_en, asks_zh)), make("div", { class: "levels" }, ...levels));
}

function score(pair, axis, level) {
  given(pair)[axis] = level;
  keep();
  count();
}

function show(at) {
  state.at = Math.min(Math.max(at, 0), data.pairs.length - 1);
  const pair = data.pairs[state.at];
  const boxes = [];
  const turns = pair.turns.map(([role, text]) => make("p", { class: `turn ${role}` }, make("span", { class: "who" }, `${role}: `), ...pieces(text, boxes)));
  const figures = pair.images.map((source, index) => picture(pair, source, index ? [] : boxes));
  const toggle = make("input", { type: "checkbox", id: "boxes" });
  toggle.checked = isAnnotationShown;
  toggle.addEventListener("change", () => showAnnotation(toggle.checked));
  const comment = make("textarea", { id: "comment", maxlength: "2000" });
  comment.value = given(pair).comment || "";
  comment.addEventListener("input", () => { given(pair).comment = comment.value; keep(); });
  const facts = make("dl", { tabindex: "0" }, ...pair.facts.flatMap(([name, value]) => [make("dt", {}, ...both(name, NAMES_ZH[name] || name)), make("dd", {}, value)]));
  const seen = [
    figures.length ? make("section", {}, ...figures, pair.annotated.length ? make("label", { class: "toggle" }, toggle, ...both("boxes of the annotation (dashed)", "标注框（虚线）")) : null) : null,
    pair.facts.length ? make("section", {}, make("h2", {}, ...both("What the annotation says", "标注内容")), facts) : null,
  ];
  const asked = [
    make("section", { lang: pair.language }, make("h2", {}, ...both("Text to be judged", "待评文本")), ...turns),
    make("section", {}, ...data.axes.map((axis) => question(pair, axis)), make("label", { class: "comment" }, ...both("Comment", "备注"), comment)),
  ];
  byId("pair").className = figures.length ? "" : "text-alone";
  byId("pair").replaceChildren(make("div", {}, ...seen.filter(Boolean)), make("div", {}, ...asked));
  byId("back").disabled = state.at === 0;
  byId("next").disabled = state.at === data.pairs.length - 1;
  byId("place").replaceChildren(...both(`Pair ${state.at + 1} of ${data.pairs.length}`, `第 ${state.at + 1} 组，共 ${data.pairs.length} 组`));
  keep();
  count();
}

function go(at) {
  show(at);
  window.scrollTo(0, 0);
  byId("pair").focus({ preventScroll: true });
}

function count() {
  const done = data.pairs.filter(isDone).length;
  byId("bar").value = done;
  byId("done").replaceChildren(...both(`${done} of ${data.pairs.length} scored`, `已评 ${done} / ${data.pairs.length}`));
  byId("open-one").disabled = done === data.pairs.length;
}

// ---- the file that goes back
// As the tables of the toolkit: no cell that a spreadsheet would run, a mark of the encoding at the head.
function cell(text) {
  const safe = /^[\s\ufeff\u200b]*[=+\-@＝＋－＠\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function table() {
  const lines = data.pairs.map((pair) => {
    const said = state.given[pair.pair] || {};
    return [pair.pair, ...data.axes.map((axis) => String(said[axis] ?? "")), said.comment || "", state.rater.trim()].map(cell).join(",");
  });
  return `\ufeff${[data.columns.join(","), ...lines].join("\r\n")}\r\n`;
}

function download() {
  const rater = state.rater.trim();
  if (!rater || rater.toLowerCase().startsWith(data.judge)) {
    tell(rater ? `A name that begins with ${data.judge} is that of a model; write another.` : "Write your name first: scores are counted by rater.", rater ? `以 ${data.judge} 开头的名称留给模型，请另写。` : "请先填写姓名：评分按评审人统计。");
    byId("rater").focus();
    return;
  }
  tell();
  const link = make("a", { href: URL.createObjectURL(new Blob([table()], { type: "text/csv" })), download: `scores-${rater.replace(/[^\p{L}\p{N}._-]+/gu, "-")}.csv` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// ---- hands
function setUi(ui) {
  state.ui = ui;
  document.documentElement.dataset.ui = ui;
  document.documentElement.lang = ui;
  byId("language").textContent = ui === "en" ? "中文" : "English";
  byId("language").lang = ui === "en" ? "zh" : "en";
}
byId("language").addEventListener("click", () => { setUi(state.ui === "en" ? "zh" : "en"); keep(); });
byId("rater").value = state.rater;
byId("rater").addEventListener("input", (event) => { state.rater = event.target.value; keep(); });
byId("download").addEventListener("click", download);
byId("back").addEventListener("click", () => go(state.at - 1));
byId("next").addEventListener("click", () => go(state.at + 1));
byId("open-one").addEventListener("click", () => {
  const places = data.pairs.map((_, index) => (state.at + 1 + index) % data.pairs.length);
  const next = places.find((place) => !isDone(data.pairs[place]));
  if (next !== undefined) go(next);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("textarea, #rater")) return;
  const pair = data.pairs[state.at];
  if (event.key === "j") go(state.at + 1);
  else if (event.key === "k") go(state.at - 1);
  else if (event.key === "b" && byId("boxes")) byId("boxes").click();
  else if (data.levels.includes(Number(event.key)) && event.key.trim()) {
    // The question in focus, or the first one that has no score.
    const axis = event.target.closest("fieldset")?.dataset.axis || data.axes.find((name) => !(name in given(pair))) || data.axes[0];
    const inputs = document.querySelectorAll(`input[name="${axis}"]`);
    inputs[Number(event.key) - 1].click();
    const following = data.axes[data.axes.indexOf(axis) + 1];
    const focused = following ? document.querySelector(`input[name="${following}"]:checked`) || document.querySelector(`input[name="${following}"]`) : byId("next");
    focused.focus();
  }
});
setUi(state.ui);
show(state.at);
