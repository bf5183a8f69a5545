"use strict";

const TINY = 96; // pixels a side up to which pixels are shown as squares
const LONG = 140; // letters of a prompt above which they are smaller
const part = (id) => document.getElementById(id);
const sides = [part("side1"), part("side2")];
const buttons = [...sides, part("tie"), part("undo"), part("finish")];
let state = null; // what the server said last
let busy = true; // an answer is on its way, or its images are
let over = false;

async function ask(name, body) {
  const sent = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(name, { ...sent, cache: "no-store", credentials: "omit" });
  const said = await response.json();
  if (!response.ok && response.status !== 409) throw new Error(said.error);
  return said;
}

function fault(text) {
  part("fault").textContent = text;
  part("fault").hidden = !text;
}

function enable() {
  document.body.dataset.state = over ? "over" : busy ? "busy" : "ready";
  for (const button of buttons) button.disabled = busy || over;
  part("undo").disabled ||= !state?.undo;
  part("finish").disabled ||= !state?.done;
}

function shown(image, number, alt) {
  // Resolves when the picture is there to be seen, or cannot be.
  return new Promise((resolve) => {
    image.onload = () => {
      image.classList.toggle("pixels", Math.max(image.naturalWidth, image.naturalHeight) <= TINY);
      resolve(true);
    };
    image.onerror = () => resolve(false);
    image.alt = alt;
    image.hidden = false;
    image.src = `image/${number}`;
  });
}

function side(button, one, number) {
  const [image, answer] = [button.querySelector("img"), button.querySelector(".answer")];
  button.classList.remove("chosen");
  answer.hidden = one.text === null;
  answer.textContent = one.text ?? "";
  image.hidden = one.text !== null;
  return one.text === null ? shown(image, one.image, `image ${number}`) : true;
}

async function show(said) {
  state = said;
  const { question, done, total } = said;
  part("progress").max = Math.max(total, 1);
  part("progress").value = done;
  part("count").textContent = `${done.toLocaleString("en")} of ${total.toLocaleString("en")}`;
  part("voter").textContent = said.voter;
  part("main").hidden = part("tie").hidden = part("prompt").hidden = question === null;
  part("about").hidden = question === null || said.kind !== "answers";
  document.body.classList.toggle("answers", said.kind === "answers");
  part("done").hidden = question !== null;
  if (question === null) {
    part("of-prompt").textContent = "";
    part("done-title").textContent = `All ${total.toLocaleString("en")} questions are answered`;
    part("done-note").textContent = "Finish writes them for training; back takes the last answer back.";
    busy = false;
    enable();
    part("finish").focus();
    return;
  }
  const [now, all] = question.of_prompt;
  part("of-prompt").textContent = all > 1 ? `pair ${now} of ${all} of this prompt` : "";
  part("prompt").textContent = question.prompt;
  part("prompt").classList.toggle("long", question.prompt.length > LONG);
  window.scrollTo(0, 0);
  const waiting = question.sides.map((one, at) => side(sides[at], one, at + 1));
  if (said.kind === "answers") waiting.push(shown(part("about"), question.sides[0].image, "what is asked about"));
  enable();
  if ((await Promise.all(waiting)).includes(false)) fault("A picture of this question cannot be shown; see that the command still runs.");
  busy = false;
  enable();
  for (const number of said.ahead) new Image().src = `image/${number}`;
}

async function tell(name, body, chosen) {
  if (busy || over) return;
  busy = true;
  chosen?.classList.add("chosen");
  enable();
  fault("");
  try {
    const said = await ask(name, body);
    chosen?.classList.remove("chosen");
    await show(said);
  } catch (error) {
    chosen?.classList.remove("chosen");
    fault(error instanceof TypeError ? "The command does not answer; is it still running? Reload to try again." : error.message);
    busy = false;
    enable();
  }
}

const vote = (choice) => state.question && tell("vote", { number: state.number, choice }, [part("tie"), ...sides][choice]);
const undo = () => state.undo && tell("undo", { number: state.number });

async function finish() {
  if (busy || over || !state.done) return;
  busy = true;
  enable();
  fault("");
  part("count").textContent = "writing…";
  try {
    const said = await ask("finish", {});
    over = true;
    part("count").textContent = "finished";
    for (const id of ["main", "tie", "prompt", "about", "undo", "finish"]) part(id).hidden = true;
    part("done").hidden = false;
    part("done-title").textContent = "Written";
    part("written").replaceChildren(...said.written.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
    part("done-note").textContent = "The command has ended; this page can be closed. The same command goes on where you stopped.";
  } catch (error) {
    fault(error.message);
    part("count").textContent = `${state.done} of ${state.total}`;
  }
  busy = false;
  enable();
}

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || busy || over) return;
  if (["0", "1", "2"].includes(event.key)) vote(Number(event.key));
  else if (["Backspace", "ArrowLeft", "u"].includes(event.key)) undo();
  else return;
  event.preventDefault();
});
for (const button of [...sides, part("tie")]) button.addEventListener("click", () => vote(Number(button.dataset.choice)));
part("undo").addEventListener("click", undo);
part("finish").addEventListener("click", finish);
enable();
ask("state").then(show, () => fault("The command does not answer; is it still running?"));
