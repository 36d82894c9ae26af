// The conversation: what was said to each model, shown as it comes, copied and saved.

import { read } from "./boxes.js";
import { say } from "./words.js";

const make = (tag, name, text) => {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
};

// Pages that come over plain http from another machine have no navigator.clipboard; there the event of copying is used.
async function putOnClipboard(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const give = (event) => {
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
  };
  document.addEventListener("copy", give, { once: true });
  document.execCommand("copy");
}

export class Talk {
  #list; #onBoxes; #rounds = [];

  constructor(list, onBoxes) {
    this.#list = list;
    this.#onBoxes = onBoxes;
  }

  get isEmpty() { return this.#rounds.length === 0; }

  // Begins a round: a question with its pictures, to be answered by some models.
  ask(text, pictures, models) {
    const round = { text, pictures, answers: Object.fromEntries(models.map((model) => [model, { text: "", end: "" }])) };
    const item = make("li", "round");
    const asked = make("article", "asked");
    asked.append(make("h3", "", say("you")));
    const shown = make("div", "row");
    for (const picture of pictures) {
      const image = make("img", "thumbnail");
      image.src = picture.data;
      image.alt = picture.told;
      shown.append(image);
    }
    if (pictures.length) asked.append(shown);
    asked.append(make("p", "text", text));
    const answers = make("div", models.length > 1 ? "answers beside" : "answers");
    round.parts = {};
    for (const model of models) {
      const article = make("article", "answer");
      article.append(make("h3", "", model));
      const part = { text: make("p", "text"), end: make("p", "end"), buttons: make("div", "row") };
      article.append(part.text, part.end, part.buttons);
      answers.append(article);
      round.parts[model] = part;
    }
    item.append(asked, answers);
    this.#list.append(item);
    this.#rounds.push(round);
    item.scrollIntoView({ block: "end" });
    return round;
  }

  hear(round, model, text) {
    const answer = round.answers[model];
    answer.text += text;
    round.parts[model].text.textContent = read(answer.text, say("box")).text;
  }

  end(round, model, how) {
    const answer = round.answers[model];
    answer.end = how;
    const part = round.parts[model];
    part.end.textContent = how === "length" ? say("longest") : how === "stopped" ? say("stopped") : "";
    const { boxes } = read(answer.text, say("box"));
    if (boxes.length) this.#onBoxes(boxes);
    if (!answer.text) return;
    const copy = make("button", "small", say("copy"));
    copy.type = "button";
    copy.addEventListener("click", async () => {
      await putOnClipboard(answer.text);
      copy.textContent = say("copied");
    });
    part.buttons.append(copy);
  }

  // Takes a round back that nobody answered.
  forget(round) {
    this.#rounds = this.#rounds.filter((each) => each !== round);
    this.#list.lastElementChild?.remove();
  }

  clear() {
    this.#rounds = [];
    this.#list.replaceChildren();
  }

  // All that was said to and by one model, in the form of the API.
  messages(model) {
    return this.#rounds.flatMap((round) => {
      const pictures = round.pictures.map((picture) => ({ type: "image_url", image_url: { url: picture.data } }));
      const asked = { role: "user", content: [...pictures, { type: "text", text: round.text }] };
      const answer = round.answers[model];
      return answer?.end ? [asked, { role: "assistant", content: answer.text }] : [asked];
    });
  }

  asJson(withPictures) {
    const rounds = this.#rounds.map(({ text, pictures, answers }) => ({
      question: text,
      pictures: pictures.map(({ told, data }) => (withPictures ? { told, data } : { told })),
      answers,
    }));
    return JSON.stringify({ notice: say("notice"), rounds }, null, 2);
  }

  asMarkdown(withPictures) {
    const lines = [`*${say("notice")}*`];
    for (const { text, pictures, answers } of this.#rounds) {
      for (const { told, data } of pictures) lines.push(withPictures ? `![${told}](${data})` : `[${told}]`);
      lines.push(`**${say("you")}:** ${text}`);
      for (const [model, answer] of Object.entries(answers)) lines.push(`**${model}:** ${answer.text}`);
    }
    return `${lines.join("\n\n")}\n`;
  }
}
