// Calls the proxy with Portkey's SDK and prints what came, as JSON:
//   node portkey.mjs BASE_URL OPTIONS-AS-JSON completion|stream|chat MODEL
import { Portkey } from "portkey-ai";

const [baseURL, options, task, model] = process.argv.slice(2);
const client = new Portkey({ baseURL, ...JSON.parse(options) });
const asked = { model, prompt: "Once upon a time", max_tokens: 12, seed: 7 };

const tasks = {
  async completion() {
    const answer = await client.completions.create(asked);
    return { text: answer.choices[0].text, provider: answer.getHeaders()?.provider };
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

try {
  console.log(JSON.stringify(await tasks[task]()));
} catch (error) {
  console.log(JSON.stringify({ error: error.constructor.name, status: error.status }));
}
