
"use strict";
const search = document.getElementById("search");
const selects = [...document.querySelectorAll("select[data-filter]")];
const cards = [...document.querySelectorAll("article")].map((element) => ({
  element,
  text: element.querySelector(".head").textContent.toLowerCase(),
  samples: [...element.querySelectorAll("section")].map((part) => ({ element: part, text: part.textContent.toLowerCase() })),
}));

function apply() {
  const words = search.value.toLowerCase().trim();
  const wanted = selects.filter((select) => select.value).map((select) => [select.dataset.filter, select.value]);
  const fits = (element) => wanted.every(([name, value]) => !(name in element.dataset) || element.dataset[name] === value);
  let shown = 0;
  let samples = 0;
  for (const card of cards) {
    let visible = 0;
    for (const sample of card.samples) {
      const found = fits(card.element) && fits(sample.element) && (card.text.includes(words) || sample.text.includes(words));
      sample.element.hidden = !found;
      visible += found;
    }
    card.element.hidden = !visible;
    shown += visible > 0;
    samples += visible;
  }
  document.getElementById("shown").textContent = `Shown: ${shown} cases, ${samples} samples.`;
  document.getElementById("empty").hidden = shown > 0;
}

search.addEventListener("input", apply);
for (const select of selects) select.addEventListener("change", apply);
document.getElementById("boxes").addEventListener("change", (event) => {
  document.body.classList.toggle("hide-boxes", !event.target.checked);
});
apply();
