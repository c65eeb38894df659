// The page: which of its three screens is shown, and what its forms do.

import { make, show } from "./list.js";
import { Room } from "./room.js";
import { Session } from "./session.js";
import { server } from "./settings.js";
import { createClient } from "./snackbase/index.js";

const NEAR_END_PX = 60;
const STATES = {
  idle: "Not connected",
  connecting: "Connecting…",
  open: "Connected",
  waiting: "Connection lost, trying again…",
  stopped: "Not connected",
  closed: "",
};

const LOGIN_ENDED = /^(token|user|account|auth)_/;

const $ = (selector) => document.querySelector(selector);
const session = new Session(server);
/** @type {ReturnType<typeof createClient> | null} */
let client = null;
let people = null;
let rooms = null;
/** @type {Room | null} */
let room = null;
let signsUp = false;

// Signing in and up --------------------------------------------------------------------------------------------------

function screen(name) {
  for (const one of ["welcome", "waiting", "naming", "chat"]) $(`#${one}`).hidden = one !== name;
  ($(`#${name} textarea`) ?? $(`#${name} input`))?.focus();
}

function welcome(problem = "") {
  leave();
  showEntry(false, problem);
  screen("welcome");
}

function showEntry(up, problem = "") {
  signsUp = up;
  const form = $("#entry");
  $("#name-row").hidden = !up;
  form.elements.name.required = up;
  form.elements.password.autocomplete = up ? "new-password" : "current-password";
  form.querySelector(".main").textContent = up ? "Sign up" : "Sign in";
  $("#other-way").textContent = up ? "I have an account: sign in" : "I am new here: sign up";
  form.querySelector(".problem").textContent = problem;
}

$("#other-way").onclick = () => showEntry(!signsUp);

/** What a form does, with its button off meanwhile and what went wrong beside it. */
function onSubmit(form, work) {
  const problem = form.querySelector(".problem") ?? $("#problem");
  form.onsubmit = async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    problem.textContent = "";
    try {
      await work(form.elements);
    } catch (error) {
      problem.textContent = textOf(error);
    } finally {
      button.disabled = false;
    }
  };
}

function textOf(error) {
  if (error.details?.[0]?.code === "not_unique" || error.code === "not_unique") return "Somebody has this name already.";
  return error.details?.[0]?.message ?? error.message;
}

onSubmit($("#entry"), async ({ email, password, name }) => {
  if (signsUp) await session.signUp(email.value, password.value);
  else await session.signIn(email.value, password.value);
  const wanted = signsUp ? name.value.trim() : "";
  $("#entry").reset();
  await enter(wanted);
});

onSubmit($("#name"), async ({ name }) => {
  await client.records("people").create({ id: session.user.id, name: name.value.trim() });
  talk();
});

for (const button of document.querySelectorAll(".leave")) {
  button.onclick = () => signOut();
}

function signOut(problem = "") {
  leave();
  session.signOut();
  welcome(problem);
}

/** Somebody is logged in: connect, and find out their name. */
async function enter(wanted = "") {
  leave();
  const mine = createClient({ url: server || undefined, getToken: session.getToken });
  client = mine;
  client.on("error", () => {}); // the state says what matters
  client.on("state", ({ state, error }) => {
    for (const place of document.querySelectorAll(".connection")) {
      place.textContent = STATES[state];
      place.dataset.state = state;
    }
    if (state !== "stopped") return;
    if (LOGIN_ENDED.test(error.code)) signOut("Please sign in again.");
    else $("#problem").textContent = error.message;
  });
  people = client.liveQuery("people", { fields: ["name"] });
  people.on("change", () => client === mine && render());
  rooms = client.liveQuery("rooms", { sort: "name" });
  rooms.on("change", () => client === mine && showRooms());
  screen("waiting");
  try {
    await people.ready;
  } catch (error) {
    if (client === mine) throw error;
  }
  if (client !== mine) return;
  if (nameOf(session.user.id) !== null) return talk();
  screen("naming");
  if (!wanted) return;
  $("#name").elements.name.value = wanted;
  $("#name").requestSubmit();
}

function leave() {
  room?.close();
  client?.close();
  client = people = rooms = room = null;
  $("#messages").replaceChildren();
  $("#rooms").replaceChildren();
}

session.onchange = () => (session.user ? enter() : welcome("Please sign in again."));

// The chat -----------------------------------------------------------------------------------------------------------

function talk() {
  screen("chat");
  showRooms();
  render();
}

function nameOf(id) {
  return people?.records.find((one) => one.id === id)?.name ?? null;
}

function showRooms() {
  show($("#rooms"), rooms.records, roomItem, () => {});
  if ($("#chat").hidden || rooms.records.length === 0) return;
  const wanted = location.hash.slice(1);
  const found = rooms.records.find((one) => one.id === wanted) ?? rooms.records[0];
  for (const link of $("#rooms").querySelectorAll("a")) {
    if (link.hash === `#${found.id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  $("#room-name").textContent = found.name;
  if (room?.id !== found.id) openRoom(found.id);
}

function roomItem({ id, name }) {
  const item = make("li");
  const link = make("a", "", name);
  link.href = `#${id}`;
  item.append(link);
  return item;
}

function openRoom(id) {
  room?.close();
  $("#messages").replaceChildren();
  room = new Room(client, id, session.user.id);
  room.onchange = render;
  room.open().catch((error) => ($("#problem").textContent = textOf(error)));
  render();
}

addEventListener("hashchange", () => rooms && showRooms());

/** Everything that depends on messages and names; the view stays where it is, at the end if it was there. */
function render() {
  $("#me").textContent = nameOf(session.user?.id) ?? "";
  if (!room) return;
  const scroll = $("#scroll");
  const fromEnd = scroll.scrollHeight - scroll.scrollTop;
  const atEnd = fromEnd - scroll.clientHeight < NEAR_END_PX;
  const first = $("#messages").firstElementChild;
  show($("#messages"), room.messages, messageItem, fillMessage);
  $("#older").hidden = !room.hasOlder;
  if (atEnd) scroll.scrollTop = scroll.scrollHeight;
  else if (first !== $("#messages").firstElementChild) scroll.scrollTop = scroll.scrollHeight - fromEnd;
}

function messageItem({ text, created_by }) {
  const item = make("li", created_by === session.user.id ? "mine" : "");
  const about = make("p", "about");
  about.append(make("span", "author"), make("time"), make("span", "state"));
  item.append(about, make("p", "text", text));
  return item;
}

function fillMessage(item, message) {
  const { created_by, created_at, state, problem } = message;
  const about = item.querySelector(".about");
  put(about.querySelector(".author"), nameOf(created_by) ?? "…");
  const time = about.querySelector("time");
  if (created_at && time.dateTime !== created_at) {
    time.dateTime = created_at;
    time.textContent = new Date(created_at).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
  }
  item.classList.toggle("sending", state === "sending");
  const told = about.querySelector(".state");
  told.classList.toggle("failed", state === "failed");
  put(told, state === "sending" ? "sending…" : state === "failed" ? `not sent: ${problem}` : "");
  const wanted = state === "failed" ? ["Try again", "Discard"] : state || created_by !== session.user.id ? [] : ["Delete"];
  const buttons = [...about.querySelectorAll("button")];
  if (buttons.map((one) => one.textContent).join() === wanted.join()) return;
  for (const button of buttons) button.remove();
  about.append(...wanted.map((label) => messageButton(label, message.id)));
}

function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function messageButton(label, id) {
  const button = make("button", "link", label);
  button.type = "button";
  button.onclick = () => {
    if (label === "Try again") room.retry(id);
    else room.delete(id).catch((error) => ($("#problem").textContent = textOf(error)));
  };
  return button;
}

onSubmit($("#write"), ({ text }) => {
  const written = text.value.trim();
  text.value = "";
  text.focus();
  if (written && room) room.send(written);
  $("#scroll").scrollTop = $("#scroll").scrollHeight;
});

$("#write").elements.text.onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("#write").requestSubmit();
};

onSubmit($("#new-room"), async ({ name }) => {
  const made = await client.records("rooms").create({ name: name.value.trim() });
  $("#new-room").reset();
  location.hash = made.id;
});

$("#older").onclick = async (event) => {
  event.target.disabled = true;
  await room.older().catch((error) => ($("#problem").textContent = textOf(error)));
  event.target.disabled = false;
};

if (session.user) enter().catch((error) => welcome(textOf(error)));
else welcome();
