/* Subscribers: N WebSocket or SSE connections in one thread, which count events and check their order.
 *
 *   load KIND PORT CONNECTIONS COLLECTION TOKENS [sparse=1] [addresses=N] [at_once=N] [distinct=1]
 *                                                                                    KIND: see crowd.h
 *
 * TOKENS is a file with one token a line; connection i uses line i modulo their number, and one of N source addresses
 * 127.0.0.1 … 127.0.0.N in turn. At most `at_once` connections are being made at any time. `distinct`: each subscribes
 * (snackbase-ws) with a filter of its own that no event fits.
 *
 * Prints {"ready":N} once all of them are subscribed, then obeys lines on stdin. Every answer is one line of JSON:
 *   mark                     forgets what was heard
 *   await EVENTS SECONDS     a report as soon as every connection has heard so many since the mark, or time is up
 *   total EVENTS SECONDS     the same, once so many were heard by all connections together
 *   rejoin AT_ONCE SECONDS   who is lost comes back now and resumes where it was (snackbase only), as often as it takes;
 *                            a report when everybody is live and has what was missed, or time is up
 * Ends with stdin.
 *
 * An event is a message with "seqno": it must be one more than the last of the same "writer" on the same connection
 * (`sparse`: larger than the last).
 */
#include "framing.h"

enum { READ_BYTES = 1 << 17, AGAIN_US = 50000, REFUSED_US = 500000 };

static int port, begun, poll_fd, addresses = 1, at_once = 50;
static const char *collection;
static char **tokens;
static int token_count;
static int64_t deadline_us;
static enum { NOTHING, EVENTS, TOTAL, RETURN } awaited;
static bool rejoining, distinct;

static const char *token_of(const struct connection *it) { return tokens[(it - connections) % token_count]; }

/* PocketBase: what a stream subscribes to is told by a request of its own, which names the stream's client id. */
static void pocketbase_join(struct connection *it, const char *text, size_t size) {
    static int fd = -1;
    if (fd < 0) fd = dial(port);
    const char *id = memmem(text, size, "\"clientId\":\"", 12);
    if (!id) return;
    char body[300], request[4096], answer[4096];
    int length = (int)strcspn(id + 12, "\"");
    int body_size = snprintf(body, sizeof body, "{\"clientId\":\"%.*s\",\"subscriptions\":[\"%s/*\"]}", length, id + 12,
                             collection);
    int size_ = snprintf(request, sizeof request,
                         "POST /api/realtime HTTP/1.1\r\nHost: bench\r\nAuthorization: %s\r\n"
                         "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
                         token_of(it), body_size, body);
    send_all(fd, request, (size_t)size_);
    ssize_t got = recv(fd, answer, sizeof answer - 1, 0);
    if (got < 12 || memcmp(answer + 9, "204", 3)) {
        answer[got > 0 ? got : 0] = 0;
        fprintf(stderr, "subscribe: %s\n", answer);
        exit(1);
    }
    now_live(it);
}

static void nats_line(struct connection *it, const char *line, size_t size) {
    if (size >= 4 && !memcmp(line, "PONG", 4)) now_live(it);
    if (size >= 4 && !memcmp(line, "PING", 4)) send_frame(it->fd, 2, "PONG\r\n", 6);
    if (size >= 4 && !memcmp(line, "-ERR", 4)) others++, keep_note(note, sizeof note, line, size);
    if (size < 4 || memcmp(line, "INFO", 4) || it->state != JOINING) return;
    char wish[300];
    int length = snprintf(wish, sizeof wish, "CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB %s 1\r\nPING\r\n",
                          collection);
    send_frame(it->fd, 2, wish, (size_t)length);
}

static void message(struct connection *it, const char *text, size_t size) {
    bool ours = kind == SNACKBASE_WS || kind == SNACKBASE_SSE;
    if (ours) keep_position(it, text, size);
    int64_t seqno = number_after(text, size, "\"seqno\":", -1);
    if (seqno >= 0 && (it->state == LIVE || it->state == RETURNING)) {
        event(it, text, size, seqno);
        return;
    }
    if (it->state == JOINING && kind == POCKETBASE_SSE)
        pocketbase_join(it, text, size);
    else if (it->state == JOINING && ours && memmem(text, size, "\"subscribed\"", 12)) {
        if (it->returns)
            it->state = RETURNING;
        else
            now_live(it);
    } else if (it->state == RETURNING && memmem(text, size, "\"caught_up\"", 11))
        now_live(it);
    else if (ours && !memmem(text, size, "heartbeat", 9) && !(rejoining && memmem(text, size, "\"closing\"", 9))) {
        others++;
        keep_note(note, sizeof note, text, size);
    }
}

/* Before the first rejoin a connection that cannot be made is a fault of the set-up; after it, it tries again. */
static void part(struct connection *it, int64_t again_in_us) {
    if (it->state == LIVE) live--;
    if (it->state > WAITING && it->state < LIVE) greeting--;
    if (it->fd >= 0) close(it->fd);
    if (it->state != LOST && it->state != WAITING) lost += !rejoining;
    it->fd = -1, it->state = LOST;
    it->raw_size = it->text_size = 0;
    it->chunked = it->in_chunk = false;
    it->again_us = now_us() + again_in_us;
}

static size_t greeted(struct connection *it, char *raw, size_t size) {
    char *end = memmem(raw, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (memcmp(raw + 9, is_websocket() ? "101" : "200", 3)) {
        if (rejoining) {
            refusals++;
            keep_note(note, sizeof note, raw, size);
            part(it, REFUSED_US);
            return 0;
        }
        fprintf(stderr, "connection %ld was refused: %.*s\n", (long)(it - connections), (int)size, raw);
        exit(1);
    }
    it->chunked = memmem(raw, (size_t)(end - raw), "chunked", 7) != NULL;
    it->state = JOINING;
    if (kind == FLOOR_WS || kind == NCHAN_WS || kind == NCHAN_SSE) now_live(it);
    if (kind == SNACKBASE_WS) {
        char wish[400], since[200] = "";
        if (distinct) snprintf(since, sizeof since, ",\"filter\":\"seqno < -%ld\"", 1 + (long)(it - connections));
        if (it->returns) snprintf(since, sizeof since, ",\"since\":\"%s\"", it->position);
        int length = snprintf(wish, sizeof wish, "{\"action\":\"subscribe\",\"collection\":\"%s\"%s}", collection, since);
        send_frame(it->fd, 1, wish, (size_t)length);
    }
    return (size_t)(end - raw) + 4;
}

static void readable(struct connection *it) {
    static char block[READ_BYTES];
    ssize_t got = recv(it->fd, block, sizeof block, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        part(it, AGAIN_US);
        return;
    }
    append(&it->raw, &it->raw_size, &it->raw_room, block, (size_t)got);
    size_t used = it->state == GREETING ? greeted(it, it->raw, it->raw_size) : 0;
    if (it->state == LOST) return;
    if (it->state != GREETING)
        used += (is_websocket() ? websocket_frames : stream_chunks)(it, it->raw + used, it->raw_size - used);
    it->raw_size -= used;
    memmove(it->raw, it->raw + used, it->raw_size);
}

static size_t request_of(const struct connection *it, char *request, size_t room) {
    const char *path = kind == NCHAN_WS || kind == NCHAN_SSE ? "/sub" : kind == POCKETBASE_SSE ? "/api/realtime" : "/";
    char target[4500], head[300] = "";
    snprintf(target, sizeof target, "%s", path);
    if (kind == SNACKBASE_WS || kind == FLOOR_WS)
        snprintf(target, sizeof target, "/api/v1/realtime/ws?token=%s", token_of(it));
    if (kind == SNACKBASE_SSE)
        snprintf(target, sizeof target, "/api/v1/realtime/subscribe?collection=%s&token=%s", collection, token_of(it));
    if (kind == SNACKBASE_SSE && it->returns) snprintf(head, sizeof head, "Last-Event-ID: %s\r\n", it->position);
    if (kind == NCHAN_SSE) snprintf(head, sizeof head, "Accept: text/event-stream\r\n");
    if (is_websocket())
        snprintf(head, sizeof head, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n");
    return (size_t)snprintf(request, room, "GET %s HTTP/1.1\r\nHost: bench\r\n%s\r\n", target, head);
}

/* The connection stands, or came to nothing. */
static void writable(struct connection *it) {
    char request[8192];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(it->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error && !rejoining) errno = error, fail("connect");
    if (error) {
        part(it, AGAIN_US);
        return;
    }
    it->state = GREETING;
    struct epoll_event wish = {.events = EPOLLIN, .data.ptr = it};
    if (epoll_ctl(poll_fd, EPOLL_CTL_MOD, it->fd, &wish) < 0) fail("epoll_ctl");
    send_all(it->fd, request, request_of(it, request, sizeof request));
}

static void begin(struct connection *it) {
    it->fd = dialling(port, 1 + (int)((it - connections) % addresses));
    if (it->fd < 0 && !rejoining) fail("connect");
    it->state = DIALLING, greeting++;
    if (it->fd < 0) {
        part(it, AGAIN_US);
        return;
    }
    struct epoll_event wish = {.events = EPOLLOUT, .data.ptr = it};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, it->fd, &wish) < 0) fail("epoll_ctl");
}

/* Begin what may begin; gives how long to wait for the next that may, in ms (-1 = nobody waits). */
static int begin_some(void) {
    while (begun < wanted && greeting < at_once) begin(&connections[begun++]);
    if (!rejoining || live + greeting == wanted) return -1;
    int64_t now = now_us();
    for (int i = 0; i < wanted && greeting < at_once; i++) {
        struct connection *it = &connections[i];
        if (it->state != LOST || it->again_us > now) continue;
        it->returns = true;
        begin(it);
    }
    return 5;
}

static void command(const char *line) {
    double seconds = 0;
    if (!strncmp(line, "mark", 4))
        mark();
    else if (sscanf(line, "await %u %lf", &target, &seconds) == 2) {
        awaited = EVENTS;
        complete = 0;
        for (int i = 0; i < wanted; i++) complete += connections[i].received >= target;
    } else if (sscanf(line, "total %lu %lf", &total_target, &seconds) == 2)
        awaited = TOTAL;
    else if (sscanf(line, "rejoin %d %lf", &at_once, &seconds) == 2) {
        awaited = RETURN, rejoining = true;
        returned = refusals = 0;
        for (int i = 0; i < wanted; i++) connections[i].again_us = 0;
    }
    deadline_us = now_us() + (int64_t)(seconds * 1e6);
}

static void commands(void) {
    static char input[4096];
    static size_t size;
    ssize_t got = read(0, input + size, sizeof input - size - 1);
    if (got <= 0) exit(0);
    size += (size_t)got;
    input[size] = 0;
    char *from = input, *end;
    while ((end = strchr(from, '\n'))) {
        *end = 0;
        command(from);
        from = end + 1;
    }
    size -= (size_t)(from - input);
    memmove(input, from, size);
}

static bool answered(void) {
    if (awaited == NOTHING) return false;
    return now_us() >= deadline_us || (awaited == EVENTS && complete == wanted) ||
           (awaited == TOTAL && received >= total_target) || (awaited == RETURN && live == wanted);
}

int main(int count, char **words) {
    if (count < 6) {
        fprintf(stderr, "usage: load KIND PORT CONNECTIONS COLLECTION TOKENS [NAME=NUMBER …]\n");
        return 2;
    }
    for (int i = 0; i < KINDS; i++)
        if (!strcmp(words[1], kind_names[i])) kind = (enum kind)i;
    port = atoi(words[2]), wanted = atoi(words[3]), collection = words[4];
    token_count = lines_of(words[5], &tokens);
    for (int i = 6; i < count; i++) {
        int number = 0;
        if (sscanf(words[i], "sparse=%d", &number) == 1) sparse = number;
        if (sscanf(words[i], "addresses=%d", &number) == 1) addresses = number;
        if (sscanf(words[i], "at_once=%d", &number) == 1) at_once = number;
        if (sscanf(words[i], "distinct=%d", &number) == 1) distinct = number;
    }
    many_files();
    connections = calloc((size_t)wanted, sizeof *connections);
    poll_fd = epoll_create1(0);
    struct epoll_event wish = {.events = EPOLLIN, .data.ptr = NULL}, found[256];
    if (!connections || epoll_ctl(poll_fd, EPOLL_CTL_ADD, 0, &wish) < 0) fail("start");
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (bool told = false;;) {
        int wait_ms = begin_some();
        if (!told && live == wanted) {
            printf("{\"ready\":%d}\n", wanted);
            told = true;
        }
        if (answered()) awaited = NOTHING, report();
        int left_ms = awaited == NOTHING ? -1 : (int)((deadline_us - now_us()) / 1000) + 1;
        if (wait_ms < 0 || (left_ms >= 0 && left_ms < wait_ms)) wait_ms = left_ms;
        int ready = epoll_wait(poll_fd, found, 256, wait_ms);
        for (int i = 0; i < ready; i++) {
            struct connection *it = found[i].data.ptr;
            if (!it)
                commands();
            else if (it->state == DIALLING)
                writable(it);
            else
                readable(it);
        }
    }
}
