// Events of one or several collections over Server-Sent Events: the browser reconnects and resumes by itself.
//
//   const stop = follow("http://localhost:8000", token, { posts: showPost, comments: showComment });

export function follow(server, token, handlers, onother = () => {}) {
  const address = new URL("/api/v1/realtime/subscribe", server);
  address.searchParams.set("token", token);
  for (const collection of Object.keys(handlers)) address.searchParams.append("collection", collection);

  const source = new EventSource(address);
  source.onmessage = ({ data, lastEventId }) => {
    const message = JSON.parse(data);
    const [collection, operation] = message.type.split(".");
    // Heartbeats, acknowledgements and the like have no dot in their type.
    if (operation === undefined) onother(message, lastEventId);
    else handlers[collection](operation, message.data, lastEventId);
  };
  return () => source.close();
}
