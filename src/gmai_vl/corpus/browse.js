"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const search = byId("search");
const selects = [...document.querySelectorAll("select[data-filter]")];
const CARDS_AT_A_TIME = 24; // so that a page of thousands of cases is there at once
const SAMPLES_ON_A_CARD = 3;
const COLOURS = 6; // of boxes, as the style sheet knows them

// Text from a corpus only ever gets in as text: elements are made here, never parsed from strings.
function make(tag, attributes = {}, ...children) {
  const isDrawing = ["svg", "g", "rect", "path", "title"].includes(tag);
  const element = isDrawing ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null && value !== undefined) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}
const tags = (...words) => make("p", { class: "tags" }, ...words.filter(([word]) => word).map(([word, kind]) => make("span", { class: `tag ${kind || ""}` }, word)));
const count = (number, word) => `${number.toLocaleString("en")} ${word}${number === 1 ? "" : "s"}`;

for (const entry of data.cases) {
  const names = entry.labels.flatMap((label) => [label.en, label.zh || ""]);
  const negative = entry.negative ? [entry.negative.en, entry.negative.zh || ""] : [];
  entry.text = [entry.source, entry.item, entry.modality, entry.department, entry.task, entry.patient_id || "", entry.license, ...names, ...negative].join("\n").toLowerCase();
  for (const sample of entry.samples) sample.text = [sample.id, ...sample.turns.map((turn) => turn[1])].join("\n").toLowerCase();
}

// ---- what is shown
let found = []; // [case, its samples that fit]
let drawn = 0;
let words = [];

function apply() {
  words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = selects.filter((select) => select.value).map((select) => [select.dataset.filter, select.value]);
  const fits = (thing) => wanted.every(([name, value]) => !(name in thing) || thing[name] === value);
  found = [];
  let samples = 0;
  for (const entry of data.cases) {
    if (!fits(entry)) continue;
    const left = words.filter((word) => !entry.text.includes(word));
    const matching = entry.samples.filter((sample) => fits(sample) && left.every((word) => sample.text.includes(word)));
    if (matching.length) found.push([entry, matching]);
    samples += matching.length;
  }
  byId("shown").textContent = `Shown: ${count(found.length, "case")}, ${count(samples, "sample")}.`;
  byId("active").textContent = wanted.length || "";
  byId("empty").hidden = found.length > 0;
  byId("cards").replaceChildren();
  drawn = 0;
  drawMore();
  remember();
}

function drawMore() {
  const next = found.slice(drawn, drawn + CARDS_AT_A_TIME);
  byId("cards").append(...next.map(([entry, matching], index) => card(entry, matching, drawn + index)));
  drawn += next.length;
}
new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting) && drawn < found.length) drawMore(); }, { rootMargin: "1200px" }).observe(byId("end"));

// ---- pieces
function picture(entry) {
  if (!entry.image) return null;
  const drawing = make("svg", { viewBox: `0 0 ${entry.width} ${entry.height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const [across, down] = entry.shown; // outlines count in pixels of the small picture
  entry.labels.forEach((label, index) => {
    const colour = `c${index % COLOURS}`;
    if (label.outline) drawing.append(make("path", { class: `outline ${colour}`, d: label.outline, transform: `scale(${entry.width / across} ${entry.height / down})` }, make("title", {}, label.en)));
    for (const [x, y, width, height] of label.boxes) drawing.append(make("rect", { class: `box ${colour}`, x, y, width, height }, make("title", {}, label.en)));
  });
  const seen = entry.labels.map((label) => label.en).concat(entry.negative ? [entry.negative.en] : []).join(", ");
  return make("figure", {}, make("img", { src: entry.image, width: entry.width, height: entry.height, alt: `${entry.modality}: ${seen || "no label"}` }), drawing);
}

function legend(entry) {
  const lines = entry.labels.map((label, index) => make("li", {},
    make("i", { class: label.boxes.length || label.outline ? `c${index % COLOURS}` : "none" }),
    make("span", {}, label.en, label.zh ? make("span", { class: "soft", lang: "zh" }, ` ${label.zh}`) : null, label.number > 1 ? ` ×${label.number}` : null,
      label.boxes.length && label.share ? make("span", { class: "soft", title: "share of the image area" }, ` ${(100 * label.share).toFixed(1)} %`) : null)));
  if (entry.negative) lines.push(make("li", {}, make("i", { class: "none" }), make("span", {}, entry.negative.en, entry.negative.zh ? make("span", { class: "soft", lang: "zh" }, ` ${entry.negative.zh}`) : null)));
  return make("ul", { class: "findings" }, ...lines);
}

function marked(text) {
  if (!words.length) return [text];
  const pattern = new RegExp(`(${words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "gi");
  return text.split(pattern).map((piece, index) => (index % 2 ? make("mark", {}, piece) : piece));
}

function conversation(sample) {
  return make("div", { class: "sample", lang: sample.language },
    tags([sample.kind], [sample.subset !== sample.kind && sample.subset], [sample.language]),
    ...sample.turns.map(([role, text]) => make("p", { class: `turn ${role}` }, make("span", { class: "who" }, `${role}: `), ...marked(text))));
}

const head = (entry) => tags([entry.image ? (entry.modality === "not given" ? "modality not given" : entry.modality) : "text alone", "strong"], [entry.split, entry.split]);

function card(entry, matching, place) {
  const more = matching.length - SAMPLES_ON_A_CARD;
  const element = make("article", { tabindex: "0", "data-place": place, "aria-label": `${entry.source} ${entry.item}` },
    make("div", { class: "head" }, picture(entry),
      make("div", { class: "about" }, head(entry), legend(entry),
        make("p", { class: "file soft" }, make("b", {}, entry.source), make("br"), ...marked(entry.item)))),
    make("div", { class: "samples" }, ...matching.slice(0, SAMPLES_ON_A_CARD).map(conversation)),
    make("button", { type: "button", class: "more" }, more > 0 ? `${count(more, "more sample")}, details` : "details"));
  element.querySelector("button").addEventListener("click", () => open(place));
  return element;
}

// ---- one case in full
function rows(pairs) {
  return make("dl", {}, ...pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
}
const json = (title, value) => make("details", {}, make("summary", {}, title), make("pre", {}, JSON.stringify(value, null, 1)));

function checks(sample) {
  const passed = Object.entries(data.checks[sample.checks]).map(([name, value]) => (value === true ? `✓ ${name}` : `${name}: ${JSON.stringify(value)}`));
  return make("p", { class: "checks soft" }, passed.length ? `checks: ${passed.join("  ")}` : "no checks");
}

let opened = -1;
function open(place) {
  if (place < 0 || place >= found.length) return;
  opened = place;
  while (drawn <= place) drawMore();
  const [entry, matching] = found[place];
  const rest = entry.samples.filter((sample) => !matching.includes(sample));
  const full = (sample) => make("div", { class: "full" }, conversation(sample), make("p", { class: "id" }, sample.id),
    make("p", { class: "soft small" }, `written by ${sample.writer}, prompt ${data.prompts[sample.prompt][0]}`), checks(sample),
    make("details", {}, make("summary", {}, "prompt"), make("pre", {}, data.prompts[sample.prompt][1])),
    json("facts of this sample", sample.facts));
  const step = (label, by) => {
    const button = make("button", { type: "button" }, label);
    button.disabled = place + by < 0 || place + by >= found.length;
    button.addEventListener("click", () => open(place + by));
    return button;
  };
  const close = make("button", { type: "button", "aria-keyshortcuts": "Escape" }, "Close");
  close.addEventListener("click", () => byId("detail").close());
  byId("detail").replaceChildren(
    make("div", { class: "bar" }, step("← previous", -1), make("span", { class: "soft" }, `${place + 1} of ${found.length}`), step("next →", 1), close),
    make("div", { class: "columns" },
      make("div", { class: "left" }, picture(entry), head(entry), legend(entry),
        rows([["source", entry.source], ["item", entry.item], ["from", entry.url], ["licence", entry.license], ["patient", entry.patient_id], ["de-identified", entry.deidentified ? "yes" : null],
          ["department", entry.department], ["clinical task", entry.clinical_task], ["annotated for", entry.task], ["plane", entry.plane],
          ["size", entry.image ? `${entry.width} × ${entry.height} pixels` : null], ["pixel spacing", entry.spacing_mm ? `${entry.spacing_mm.map((mm) => mm.toFixed(2)).join(" × ")} mm` : null], ["image", entry.sha256], ["case", entry.case_id]]),
        entry.facts ? json("facts of the case", entry.facts) : null),
      make("div", { class: "right" }, ...matching.map(full), rest.length ? make("details", { class: "rest" }, make("summary", {}, `${count(rest.length, "sample")} of this case that the filters hide`), ...rest.map(full)) : null)));
  if (!byId("detail").open) byId("detail").showModal();
  byId("detail").scrollTop = 0;
  remember();
}
byId("detail").addEventListener("close", () => {
  const last = byId("cards").children[opened];
  opened = -1;
  remember();
  if (last) last.focus();
});
byId("detail").addEventListener("click", (event) => { if (event.target === byId("detail")) byId("detail").close(); });

// ---- what was left out
function ledger() {
  const { outcomes, reasons } = data.ledger;
  const kinds = ["kept", "duplicate", "excluded", "quarantined", "withdrawn"].filter((kind) => Object.values(outcomes).some((numbers) => numbers[kind]));
  const table = make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, "source"), ...kinds.map((kind) => make("th", {}, kind)))),
    make("tbody", {}, ...Object.entries(outcomes).map(([source, numbers]) => make("tr", {}, make("td", {}, source), ...kinds.map((kind) => make("td", {}, (numbers[kind] || 0).toLocaleString("en")))))));
  const groups = reasons.map((group) => make("details", { class: `group ${group.outcome}` },
    make("summary", {}, make("b", {}, group.number.toLocaleString("en")), make("span", { class: `tag ${group.outcome}` }, group.outcome), make("span", { class: "soft" }, group.source), make("span", {}, group.reason)),
    make("ul", {}, ...group.examples.map(([item, reason]) => make("li", {}, make("code", {}, item), make("br"), reason))),
    group.number > group.examples.length ? make("p", { class: "soft" }, `and ${(group.number - group.examples.length).toLocaleString("en")} more; ledger.parquet has them all`) : null));
  const others = reasons.reduce((sum, group) => sum + group.number, 0);
  byId("left-out").textContent = others ? others.toLocaleString("en") : "";
  byId("ledger").append(make("p", { class: "count" }, others ? "What became of every item of the sources, and why some were not kept. Numbers and names in a reason are taken out to group it." : "Every item of the sources was kept."),
    make("div", { class: "scroll" }, table), ...groups);
}

function view(name) {
  for (const tab of ["cases", "ledger"]) {
    byId(tab).hidden = tab !== name;
    byId(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
    byId(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
  }
  remember();
}

// ---- the address holds what is shown, so that it can be passed on: #q=polyp&modality=MR&case=3, #tab=ledger
let isReading = false;
function remember() {
  if (isReading) return;
  const state = new URLSearchParams();
  if (search.value) state.set("q", search.value);
  for (const select of selects) if (select.value) state.set(select.dataset.filter, select.value);
  if (byId("cases").hidden) state.set("tab", "ledger");
  if (opened >= 0) state.set("case", opened + 1);
  if (location.hash.slice(1) !== state.toString()) history.replaceState(null, "", `#${state}`);
}
function read() {
  isReading = true;
  const state = new URLSearchParams(location.hash.slice(1));
  search.value = state.get("q") || "";
  for (const select of selects) select.value = state.get(select.dataset.filter) || "";
  view(state.get("tab") === "ledger" ? "ledger" : "cases");
  apply();
  if (state.has("case")) open(Number(state.get("case")) - 1);
  else byId("detail").close();
  isReading = false;
}
window.addEventListener("hashchange", read);

// ---- hands
search.addEventListener("input", apply);
for (const select of selects) select.addEventListener("change", apply);
byId("clear").addEventListener("click", () => {
  search.value = "";
  for (const select of selects) select.value = "";
  apply();
});
for (const name of ["boxes", "outlines"]) byId(name).addEventListener("change", (event) => document.body.classList.toggle(`hide-${name}`, !event.target.checked));
for (const tab of ["cases", "ledger"]) {
  byId(`tab-${tab}`).addEventListener("click", () => view(tab));
  byId(`tab-${tab}`).addEventListener("keydown", (event) => {
    if (!event.key.startsWith("Arrow")) return;
    const other = tab === "cases" ? "ledger" : "cases";
    view(other);
    byId(`tab-${other}`).focus();
  });
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input[type=search], select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (byId("detail").open) {
    if (event.key === "ArrowRight" || event.key === "j") open(opened + 1);
    if (event.key === "ArrowLeft" || event.key === "k") open(opened - 1);
  } else if (event.key === "/") {
    event.preventDefault();
    view("cases");
    search.focus();
  } else if (event.key === "j" || event.key === "k") {
    const here = document.activeElement.closest("article");
    const place = here ? Number(here.dataset.place) + (event.key === "j" ? 1 : -1) : 0;
    if (place >= drawn) drawMore();
    const next = byId("cards").children[place];
    if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
  } else if (event.key === "Enter" && event.target.matches("article")) {
    open(Number(event.target.dataset.place));
  }
  if (event.key === "b") byId("boxes").click();
  if (event.key === "o") byId("outlines").click();
});
if (window.matchMedia("(max-width: 720px)").matches) byId("filters").open = false;
ledger();
read();
