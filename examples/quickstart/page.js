import { LiveList, Tokens } from "./livelist.js";

const $ = (id) => document.getElementById(id);
let server, tokens;

async function call(method, path, body) {
  const answer = await fetch(`${server}${path}`, {
    method,
    headers: { "Content-Type": "application/json", ...(tokens && { Authorization: `Bearer ${tokens.access}` }) },
    body: body && JSON.stringify(body),
  });
  const value = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Error(value.message);
  return value;
}

function show(posts) {
  posts.sort((a, b) => (a.created_at < b.created_at ? 1 : -1));
  $("posts").replaceChildren(
    ...posts.map((post) => {
      const item = document.createElement("li");
      const remove = document.createElement("button");
      remove.textContent = "Delete";
      remove.onclick = () => call("DELETE", `/records/posts/${post.id}`).catch(tell);
      item.append(post.title, remove);
      return item;
    }),
  );
  $("state").textContent = `${posts.length} posts, live`;
}

const tell = (error) => ($("state").textContent = error.message);

$("login").onsubmit = async (event) => {
  event.preventDefault();
  const { server: address, ...login } = Object.fromEntries(new FormData(event.target));
  server = `${address.replace(/\/$/, "")}/api/v1`;
  try {
    tokens = new Tokens(server, await call("POST", "/auth/login", login));
    $("login").hidden = true;
    $("write").hidden = false;
    new LiveList(server, "posts", tokens, show).open();
  } catch (error) {
    tell(error);
  }
};

$("write").onsubmit = (event) => {
  event.preventDefault();
  const form = event.target;
  call("POST", "/records/posts", Object.fromEntries(new FormData(form)))
    .then(() => form.reset())
    .catch(tell);
};
