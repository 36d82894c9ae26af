// The server's own API: JSON, uploads, pictures, and answers as they come. The key lives in this variable only.

let key = "";

export const useKey = (given) => { key = given; };

export class Refused extends Error {
  constructor(message, status, wait) {
    super(message);
    this.status = status;
    this.wait = wait;
  }
}

export async function call(path, options = {}) {
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  const reply = await fetch(path, { ...options, headers });
  if (reply.ok) return reply;
  let message = `${reply.status}`;
  try { message = (await reply.json()).error.message; } catch { /* no body in OpenAI's form: the status has to do */ }
  throw new Refused(message, reply.status, Number(reply.headers.get("retry-after")) || 0);
}

export const tell = async (path) => (await call(path)).json();
export const picture = async (path) => (await call(path)).blob();

export async function upload(files) {
  const form = new FormData();
  for (const file of files) form.append("files", file, "file");  // names of files often are names of people
  return (await call("/demo/studies", { method: "POST", body: form })).json();
}

// Yields {text} as it comes and {finish} at the end. Throws Refused where the stream breaks off.
export async function* answer(body, signal) {
  const options = { method: "POST", signal, headers: { "content-type": "application/json" }, body: JSON.stringify({ ...body, stream: true }) };
  const reply = await call("/v1/chat/completions", options);
  let rest = "";
  for await (const piece of pieces(reply.body)) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") return;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Refused(event.error.message, 500, 0);
      const choice = event.choices[0];
      if (choice?.delta.content) yield { text: choice.delta.content };
      if (choice?.finish_reason) yield { finish: choice.finish_reason };
    }
  }
  throw new Refused("", 0, 0);
}

async function* pieces(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
  } finally {
    reader.cancel().catch(() => { /* it has ended already */ });
  }
}
