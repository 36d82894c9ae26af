// Puts the page together: what is on view, what is asked, and who answers.

import { Refused, answer, call, picture, tell, upload, useKey } from "./api.js";
import { written } from "./boxes.js";
import { Talk } from "./talk.js";
import { Viewer } from "./viewer.js";
import { say, speak, spoken, translate } from "./words.js";

const at = (id) => document.getElementById(id);
const viewer = new Viewer(at("canvas"), at("stage"));
const talk = new Talk(at("talk"), (boxes) => viewer.boxes(boxes));

let about = null;
let study = null;      // what the server told of an upload
let onView = null;     // {data, told, key}: the picture on view
let attached = [];     // pictures that go with the next question besides the one on view
let lastShown = "";    // key of the last picture that was sent
let asking = null;     // AbortController of the answers under way
let looking = 0;       // number of the last picture that was asked for: answers to earlier ones come too late

// ---- words, light

function fill(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
  if (entries.some(([value]) => value === chosen)) select.value = chosen;
}

function writeChoices() {
  if (!about) return;
  const tongue = spoken();
  fill(at("task"), about.tasks.map((task) => [task.name, task.label[tongue]]), at("task").value);
  fill(at("body"), [["", say("any")], ...about.body_systems.map((body) => [body.name, body.label[tongue]])], at("body").value);
  fill(at("model"), about.models.map((model) => [model, model]), at("model").value);
  fill(at("beside"), [["", say("nobody")], ...about.models.map((model) => [model, model])], at("beside").value);
  at("samples").replaceChildren(...about.samples.map(sampleButton));
  if (study) writeStudy();
  writeAttached();
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  at("theme").dataset.word = theme === "dark" ? "light" : "dark";
  at("theme").textContent = say(at("theme").dataset.word);
}

at("language").addEventListener("click", () => {
  speak(spoken() === "en" ? "zh" : "en");
  at("language").textContent = spoken() === "en" ? "中文" : "English";
  at("language").lang = spoken() === "en" ? "zh" : "en";
  writeChoices();
  suggest();
});
at("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));

// ---- faults

function fault(error) {
  if (error.name === "AbortError") return;
  if (error instanceof Refused && error.status === 401) {
    at("key-dialog").showModal();
    return;
  }
  const wait = error.wait ? ` ${say("retry", { s: error.wait })}` : "";
  const said = error instanceof Refused ? error.message || say("cutOff") : say("lost");
  at("fault").textContent = said + wait;
  at("fault").hidden = false;
}

const quiet = () => { at("fault").hidden = true; };

at("key-form").addEventListener("submit", () => {
  useKey(at("key").value);
  at("key").value = "";
  begin();
});

// ---- pictures on view

const asData = (blob) => new Promise((done, failed) => {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => failed(reader.error);
  reader.readAsDataURL(blob);
});

async function look(path, told, key, pitch) {
  const number = ++looking;
  try {
    const blob = await picture(path);
    const data = await asData(blob);
    if (number !== looking) return;
    await viewer.show(blob, pitch);
    viewer.boxes([]);
    onView = { data, told, key };
    at("empty").hidden = true;
    at("controls").hidden = false;
    quiet();
  } catch (error) { fault(error); }
}

function sampleButton(sample) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "sample";
  const label = sample.label[spoken()];
  const name = document.createElement("span");
  name.textContent = label;
  const credit = document.createElement("small");
  credit.textContent = `${sample.credit}; ${sample.licence}`;
  button.append(name, credit);
  button.addEventListener("click", () => {
    forgetStudy();
    viewer.place(null);
    look(`/demo/samples/${encodeURIComponent(sample.name)}.png`, label, sample.name, null);
  });
  const item = document.createElement("li");
  item.append(button);
  return item;
}

async function open(files) {
  if (!files.length) return;
  at("status").textContent = say("opening");
  try {
    const opened = await upload([...files]);
    forgetStudy();
    study = opened;
    viewer.place(null);
    fill(at("series"), study.series.map((series, place) => [String(place), seriesName(series)]), "0");
    chooseSeries();
    quiet();
  } catch (error) { fault(error); }
  at("status").textContent = "";
  at("files").value = at("folder").value = "";
}

function forgetStudy() {
  if (study) call(`/demo/studies/${study.id}`, { method: "DELETE" }).catch(() => { /* it has expired */ });
  study = null;
  for (const field of ["series-field", "plane-field", "window-field", "slice-field"]) at(field).hidden = true;
  at("warning").hidden = true;
}

const seriesName = (series) => `${series.number + 1} ${series.modality ?? ""} ${series.planes[0].width} × ${series.planes[0].height}${series.planes[0].slices > 1 ? ` × ${series.planes[0].slices}` : ""}`;
const series = () => study.series[Number(at("series").value)];
const plane = () => series().planes.find((each) => each.name === at("plane").value);

function writeStudy() {
  const one = series();
  fill(at("plane"), one.planes.map((each) => [each.name, say(each.name)]), at("plane").value);
  fill(at("window"), one.windows.map((each) => [each, windowName(each)]), at("window").value);
  at("series-field").hidden = study.series.length < 2;
  at("plane-field").hidden = one.planes.length < 2;
  at("window-field").hidden = one.windows.length < 2;
  const left = study.left_out.map(({ reason, count }) => `${count} × ${reason}`).join("; ");
  const warnings = [...one.notes.map((note) => say(note)), ...(left ? [say("leftOut") + left] : [])];
  at("warning").textContent = warnings.join(" ");
  at("warning").hidden = !warnings.length;
}

function windowName(name) {
  const range = about.windows[name];
  return say(`window-${name}`) + (range ? ` (${range[0]} … ${range[1]} HU)` : "");
}

function chooseSeries() {
  at("plane").replaceChildren();
  at("window").replaceChildren();
  writeStudy();
  choosePlane();
}

function choosePlane() {
  const { slices, first } = plane();
  at("slice").max = slices - 1;
  at("slice").value = first;
  at("slice-field").hidden = slices < 2;
  lookAtSlice();
}

function lookAtSlice() {
  const { name, slices, pixel_mm: pitch } = plane();
  const index = Number(at("slice").value);
  at("slice-number").value = `${index + 1} / ${slices}`;
  const window = at("window").value;
  const path = `/demo/studies/${study.id}/${series().number}/${name}/${index}.png${window ? `?window=${window}` : ""}`;
  const told = [series().modality, slices > 1 || series().planes.length > 1 ? `${say(name)} ${index + 1}/${slices}` : "", window ? say(`window-${window}`) : ""];
  look(path, told.filter(Boolean).join(", ") || say("picture"), path, pitch);
}

at("files").addEventListener("change", (event) => open(event.target.files));
at("folder").addEventListener("change", (event) => open(event.target.files));
at("series").addEventListener("change", chooseSeries);
at("plane").addEventListener("change", choosePlane);
at("window").addEventListener("change", lookAtSlice);
at("slice").addEventListener("input", lookAtSlice);
viewer.addEventListener("leaf", ({ detail }) => {
  if (!study || plane().slices < 2) return;
  at("slice").value = Number(at("slice").value) + detail;
  lookAtSlice();
});
at("stage").addEventListener("dragover", (event) => event.preventDefault());
at("stage").addEventListener("drop", (event) => {
  event.preventDefault();
  open(event.dataTransfer.files);
});

// ---- the question

at("mark").addEventListener("click", () => { viewer.place(viewer.mark ?? [0.35, 0.35, 0.65, 0.65]); at("canvas").focus(); });
at("unmark").addEventListener("click", () => viewer.place(null));
viewer.addEventListener("marked", () => { at("unmark").hidden = !viewer.mark; writeAttached(); });
at("attach").addEventListener("click", () => {
  if (!onView || attached.some(({ key }) => key === onView.key)) return;
  if (attached.length + 1 >= about.limits.images) { fault(new Refused(say("tooMany"), 422, 0)); return; }
  attached.push(onView);
  writeAttached();
});

function writeAttached() {
  const chips = attached.map((one, place) => {
    const item = document.createElement("li");
    const image = document.createElement("img");
    image.src = one.data;
    image.alt = one.told;
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "small";
    remove.textContent = say("remove");
    remove.addEventListener("click", () => { attached.splice(place, 1); writeAttached(); });
    item.append(image, remove);
    return item;
  });
  if (viewer.mark) {
    const item = document.createElement("li");
    item.id = "region";
    item.textContent = `${say("region")} ${written(viewer.mark)}`;
    chips.push(item);
  }
  at("attached").replaceChildren(...chips);
}

function suggest() {
  const task = about?.tasks.find(({ name }) => name === at("task").value);
  at("question").placeholder = task ? task.question[spoken()] : "";
}
at("task").addEventListener("change", suggest);

function question() {
  const typed = at("question").value.trim();
  const box = viewer.mark && written(viewer.mark);
  let text = typed || (box ? say("regionQuestion", { box }) : at("question").placeholder);
  if (typed && box) text += ` ${say("inRegion", { box })}`;
  const body = about.body_systems.find(({ name }) => name === at("body").value);
  return body ? `${say("bodyLine", { body: body.label[spoken()] })}\n${text}` : text;
}

at("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    at("ask").requestSubmit();
  }
});

at("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (asking || !about) return;
  quiet();
  const isNew = onView && (onView.key !== lastShown || talk.isEmpty) && !attached.some(({ key }) => key === onView.key);
  const pictures = [...attached, ...(isNew ? [onView] : [])];
  const models = [...new Set([at("model").value, at("beside").value].filter(Boolean))];
  const round = talk.ask(question(), pictures, models);
  asking = new AbortController();
  at("send").disabled = true;
  at("stop").hidden = false;
  at("status").textContent = say("answering");
  const heard = await Promise.all(models.map((model) => hear(round, model, asking.signal)));
  if (heard.some(Boolean)) {
    if (onView) lastShown = onView.key;
    attached = [];
    at("question").value = "";
    writeAttached();
    at("status").textContent = say("answered");
  } else {
    talk.forget(round);
    at("status").textContent = "";
  }
  asking = null;
  at("send").disabled = false;
  at("stop").hidden = true;
});

// Returns whether there was an answer, even one that was stopped.
async function hear(round, model, signal) {
  const body = { model, messages: talk.messages(model), max_tokens: at("length").valueAsNumber || 256, temperature: at("temperature").valueAsNumber || 0, seed: at("seed").valueAsNumber || 0 };
  let finish = "";
  try {
    for await (const piece of answer(body, signal)) {
      if (piece.text) talk.hear(round, model, piece.text);
      finish = piece.finish ?? finish;
    }
  } catch (error) {
    fault(error);
    finish = round.answers[model].text ? "stopped" : "";
  }
  if (!finish) return false;
  talk.end(round, model, finish);
  return true;
}

at("stop").addEventListener("click", () => asking?.abort());
at("fresh").addEventListener("click", () => {
  asking?.abort();
  talk.clear();
  viewer.boxes([]);
  viewer.place(null);
  attached = [];
  lastShown = "";
  quiet();
  writeAttached();
});

// ---- saving

at("download").addEventListener("click", () => at("save-dialog").showModal());
function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
at("save-json").addEventListener("click", () => save("conversation.json", "application/json", talk.asJson(at("with-pictures").checked)));
at("save-markdown").addEventListener("click", () => save("conversation.md", "text/markdown", talk.asMarkdown(at("with-pictures").checked)));

// ---- beginning

async function begin() {
  try {
    about = await tell("/demo/about");
  } catch (error) {
    fault(error);
    return;
  }
  at("length").max = about.max_tokens;
  writeChoices();
  suggest();
}

translate();
at("language").textContent = spoken() === "en" ? "中文" : "English";
at("language").lang = spoken() === "en" ? "zh" : "en";
setTheme(localStorage.getItem("theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
forgetStudy();
begin();
