// Calls the proxy with the official SDK and prints what came, as JSON:
//   node openai.mjs BASE_URL API_KEY completion|stream|chat|fail|retry MODEL
import OpenAI from "openai";

const [baseURL, apiKey, task, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: task === "retry" ? 2 : 0 });
const asked = { model, prompt: "Once upon a time", max_tokens: 12, seed: 7 };

const tasks = {
  async completion() {
    const answer = await client.completions.create(asked);
    return { text: answer.choices[0].text, id: answer._request_id };
  },
  async stream() {
    const texts = [];
    for await (const event of await client.completions.create({ ...asked, stream: true })) {
      texts.push(...event.choices.map((choice) => choice.text));
    }
    return { texts };
  },
  async chat() {
    const messages = [{ role: "user", content: "Hello" }];
    const answer = await client.chat.completions.create({ model, messages, max_tokens: 8 });
    return { text: answer.choices[0].message.content };
  },
};
tasks.retry = tasks.fail = tasks.completion;

try {
  console.log(JSON.stringify(await tasks[task]()));
} catch (error) {
  const { name } = error.constructor;
  console.log(JSON.stringify({ error: name, status: error.status, code: error.code }));
}
