/* Subscribers: N WebSocket or SSE connections in one thread, which count events and check their order.
 *
 *   load KIND PORT CONNECTIONS COLLECTION TOKENS      KIND: snackbase-ws snackbase-sse pocketbase-sse floor-ws
 *
 * TOKENS is a file with one token a line; connection i uses line i modulo their number. Prints {"ready":N} once all of
 * them are subscribed, then obeys lines on stdin: `mark` forgets what was heard; `await EVENTS SECONDS` answers with a
 * report as soon as every connection has heard so many since the mark, or the time is up. Ends with stdin.
 *
 * An event is a message with "seqno": it must be one more than the last of the same "writer" on the same connection.
 */
#include "common.h"

enum kind { SNACKBASE_WS, SNACKBASE_SSE, POCKETBASE_SSE, FLOOR_WS };
enum state { GREETING, JOINING, LIVE, LOST };

enum { MOST_WRITERS = 64, MOST_GREETING = 50, READ_BYTES = 1 << 17, NOTE_BYTES = 200 };
#define MOST_SAMPLES (8u << 20)

struct connection {
    int fd;
    enum state state;
    bool chunked, in_chunk;
    size_t chunk_left;
    char *raw, *text; /* bytes as they came and are not understood yet; an event stream's body, past its chunks */
    size_t raw_size, raw_room, text_size, text_room;
    uint32_t received, last[MOST_WRITERS];
};

static enum kind kind;
static int port, wanted, begun, greeting, live, lost, poll_fd;
static struct connection *connections;
static const char *collection;
static char **tokens;
static int token_count;

static uint64_t received, bytes, gaps, repeats, others;
static int64_t first_us, last_us, deadline_us;
static uint32_t target, *samples;
static size_t sample_count, sample_room;
static int complete;
static bool awaiting;
static char note[NOTE_BYTES];

static void append(char **buffer, size_t *size, size_t *room, const char *more, size_t count) {
    if (*size + count + 1 > *room) *buffer = grown(*buffer, *room = (*size + count + 1) * 2);
    memcpy(*buffer + *size, more, count);
    *size += count;
    (*buffer)[*size] = 0;
}

static int64_t number_after(const char *text, size_t size, const char *name, int64_t absent) {
    const char *found = memmem(text, size, name, strlen(name));
    return found ? strtoll(found + strlen(name), NULL, 10) : absent;
}

static void send_frame(int fd, int opcode, const char *payload, size_t size) {
    char head[8] = {(char)(0x80 | opcode), (char)(0x80 | (size < 126 ? size : 126))};
    size_t used = 2;
    if (size >= 126) head[used++] = (char)(size >> 8), head[used++] = (char)size;
    /* Then four zeros: a mask that changes nothing is a mask (RFC 6455, 5.3). */
    send_all(fd, head, used + 4);
    send_all(fd, payload, size);
}

static void now_live(struct connection *it) {
    it->state = LIVE;
    greeting--, live++;
}

static void event(struct connection *it, const char *text, size_t size, int64_t seqno) {
    int64_t now = now_us();
    int64_t writer = number_after(text, size, "\"writer\":", 0);
    int64_t sent = number_after(text, size, "\"sent_us\":", now);
    uint32_t *last = &it->last[writer >= 0 && writer < MOST_WRITERS ? writer : 0];
    if (seqno <= *last)
        repeats++;
    else {
        gaps += (uint64_t)(seqno - *last - 1);
        *last = (uint32_t)seqno;
    }
    if (!received) first_us = now;
    last_us = now;
    received++, bytes += size;
    if (++it->received == target && awaiting) complete++;
    if (sample_count == sample_room && sample_room < MOST_SAMPLES)
        samples = grown(samples, (sample_room = sample_room ? sample_room * 2 : 4096) * sizeof *samples);
    if (sample_count < sample_room) samples[sample_count++] = clamped(now - sent);
}

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
                         tokens[(it - connections) % token_count], body_size, body);
    send_all(fd, request, (size_t)size_);
    ssize_t got = recv(fd, answer, sizeof answer - 1, 0);
    if (got < 12 || memcmp(answer + 9, "204", 3)) {
        answer[got > 0 ? got : 0] = 0;
        fprintf(stderr, "subscribe: %s\n", answer);
        exit(1);
    }
    now_live(it);
}

static void message(struct connection *it, const char *text, size_t size) {
    int64_t seqno = number_after(text, size, "\"seqno\":", -1);
    if (seqno >= 0 && it->state == LIVE) {
        event(it, text, size, seqno);
        return;
    }
    if (it->state == JOINING && kind == POCKETBASE_SSE)
        pocketbase_join(it, text, size);
    else if (it->state == JOINING && memmem(text, size, "\"subscribed\"", 12))
        now_live(it);
    else if (!memmem(text, size, "heartbeat", 9)) {
        others++;
        keep_note(note, sizeof note, text, size);
    }
}

static size_t websocket_frames(struct connection *it, const char *raw, size_t size) {
    size_t used = 0;
    while (size - used >= 2) {
        const unsigned char *head = (const unsigned char *)raw + used;
        size_t length = head[1] & 0x7f, head_size = 2;
        if (length == 126) head_size = 4;
        if (length == 127) head_size = 10;
        if (size - used < head_size) break;
        if (head_size > 2) {
            length = 0;
            for (size_t i = 2; i < head_size; i++) length = length << 8 | head[i];
        }
        if (size - used < head_size + length) break;
        const char *payload = raw + used + head_size;
        if ((head[0] & 0x0f) == 1)
            message(it, payload, length);
        else if ((head[0] & 0x0f) == 9)
            send_frame(it->fd, 10, payload, length);
        used += head_size + length;
    }
    return used;
}

static void stream_text(struct connection *it, const char *more, size_t count) {
    append(&it->text, &it->text_size, &it->text_room, more, count);
    char *from = it->text, *end = it->text + it->text_size, *stop;
    while ((stop = memmem(from, (size_t)(end - from), "\n\n", 2))) {
        message(it, from, (size_t)(stop - from));
        from = stop + 2;
    }
    it->text_size = (size_t)(end - from);
    memmove(it->text, from, it->text_size);
}

static size_t stream_chunks(struct connection *it, const char *raw, size_t size) {
    size_t used = 0;
    if (!it->chunked) {
        stream_text(it, raw, size);
        return size;
    }
    while (used < size) {
        if (!it->in_chunk) {
            const char *line = memmem(raw + used, size - used, "\r\n", 2);
            if (!line) break;
            it->chunk_left = strtoul(raw + used, NULL, 16) + 2; /* with the CRLF after it */
            it->in_chunk = true;
            used = (size_t)(line - raw) + 2;
        }
        size_t part = size - used < it->chunk_left ? size - used : it->chunk_left;
        size_t body = it->chunk_left > 2 ? it->chunk_left - 2 : 0;
        stream_text(it, raw + used, part < body ? part : body);
        it->chunk_left -= part, used += part;
        it->in_chunk = it->chunk_left > 0;
    }
    return used;
}

static size_t greeted(struct connection *it, char *raw, size_t size) {
    char *end = memmem(raw, size, "\r\n\r\n", 4);
    if (!end) return 0;
    const char *status = kind == SNACKBASE_WS || kind == FLOOR_WS ? "101" : "200";
    if (memcmp(raw + 9, status, 3)) {
        fprintf(stderr, "connection %ld was refused: %.*s\n", (long)(it - connections), (int)size, raw);
        exit(1);
    }
    it->chunked = memmem(raw, (size_t)(end - raw), "chunked", 7) != NULL;
    it->state = JOINING;
    if (kind == FLOOR_WS) now_live(it);
    if (kind == SNACKBASE_WS) {
        char wish[200];
        int length = snprintf(wish, sizeof wish, "{\"action\":\"subscribe\",\"collection\":\"%s\"}", collection);
        send_frame(it->fd, 1, wish, (size_t)length);
    }
    return (size_t)(end - raw) + 4;
}

static void readable(struct connection *it) {
    static char block[READ_BYTES];
    ssize_t got = recv(it->fd, block, sizeof block, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        if (it->state == LIVE) live--;
        if (it->state < LIVE) greeting--;
        it->state = LOST, lost++;
        close(it->fd);
        return;
    }
    append(&it->raw, &it->raw_size, &it->raw_room, block, (size_t)got);
    size_t used = it->state == GREETING ? greeted(it, it->raw, it->raw_size) : 0;
    if (it->state != GREETING) {
        bool framed = kind == SNACKBASE_WS || kind == FLOOR_WS;
        used += (framed ? websocket_frames : stream_chunks)(it, it->raw + used, it->raw_size - used);
    }
    it->raw_size -= used;
    memmove(it->raw, it->raw + used, it->raw_size);
}

static void greet(struct connection *it) {
    char request[4096];
    const char *token = tokens[(it - connections) % token_count];
    it->fd = dial(port);
    const char *upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    int size;
    if (kind == SNACKBASE_WS || kind == FLOOR_WS)
        size = snprintf(request, sizeof request, "GET /api/v1/realtime/ws?token=%s HTTP/1.1\r\nHost: bench\r\n%s\r\n",
                        token, upgrade);
    else if (kind == SNACKBASE_SSE)
        size = snprintf(request, sizeof request,
                        "GET /api/v1/realtime/subscribe?collection=%s&token=%s HTTP/1.1\r\nHost: bench\r\n\r\n",
                        collection, token);
    else
        size = snprintf(request, sizeof request, "GET /api/realtime HTTP/1.1\r\nHost: bench\r\n\r\n");
    send_all(it->fd, request, (size_t)size);
    unblock(it->fd);
    struct epoll_event wish = {.events = EPOLLIN, .data.ptr = it};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, it->fd, &wish) < 0) fail("epoll_ctl");
    begun++, greeting++;
}

static void mark(void) {
    for (int i = 0; i < wanted; i++) {
        connections[i].received = 0;
        memset(connections[i].last, 0, sizeof connections[i].last);
    }
    received = bytes = gaps = repeats = others = 0;
    first_us = last_us = 0;
    sample_count = 0;
    note[0] = 0;
    printf("{\"marked\":true}\n");
}

static void report(void) {
    uint32_t least = UINT32_MAX, most = 0;
    for (int i = 0; i < wanted; i++) {
        if (connections[i].received < least) least = connections[i].received;
        if (connections[i].received > most) most = connections[i].received;
    }
    sort_us(samples, sample_count);
    printf("{\"connections\":%d,\"live\":%d,\"lost\":%d,\"received\":%llu,\"least\":%u,\"most\":%u,\"gaps\":%llu,"
           "\"repeats\":%llu,\"others\":%llu,\"bytes\":%llu,\"p50_us\":%u,\"p99_us\":%u,\"max_us\":%u,"
           "\"first_us\":%lld,\"last_us\":%lld,\"note\":\"%s\"}\n",
           wanted, live, lost, (unsigned long long)received, least, most, (unsigned long long)gaps,
           (unsigned long long)repeats, (unsigned long long)others, (unsigned long long)bytes,
           percentile(samples, sample_count, 50), percentile(samples, sample_count, 99),
           percentile(samples, sample_count, 100), (long long)first_us, (long long)last_us, note);
    awaiting = false;
}

static void command(const char *line) {
    double seconds;
    if (!strncmp(line, "mark", 4))
        mark();
    else if (sscanf(line, "await %u %lf", &target, &seconds) == 2) {
        awaiting = true;
        deadline_us = now_us() + (int64_t)(seconds * 1e6);
        complete = 0;
        for (int i = 0; i < wanted; i++) complete += connections[i].received >= target;
    }
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

static void read_tokens(const char *path) {
    FILE *file = fopen(path, "r");
    char line[4096];
    if (!file) fail(path);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\r\n")] = 0;
        tokens = grown(tokens, (size_t)(token_count + 1) * sizeof *tokens);
        tokens[token_count++] = strdup(line);
    }
    fclose(file);
}

int main(int count, char **words) {
    static const char *kinds[] = {"snackbase-ws", "snackbase-sse", "pocketbase-sse", "floor-ws"};
    if (count != 6) {
        fprintf(stderr, "usage: load KIND PORT CONNECTIONS COLLECTION TOKENS\n");
        return 2;
    }
    for (int i = 0; i < 4; i++)
        if (!strcmp(words[1], kinds[i])) kind = (enum kind)i;
    port = atoi(words[2]), wanted = atoi(words[3]), collection = words[4];
    read_tokens(words[5]);
    connections = calloc((size_t)wanted, sizeof *connections);
    poll_fd = epoll_create1(0);
    struct epoll_event wish = {.events = EPOLLIN, .data.ptr = NULL}, found[256];
    if (!connections || epoll_ctl(poll_fd, EPOLL_CTL_ADD, 0, &wish) < 0) fail("start");
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (bool told = false;;) {
        while (begun < wanted && greeting < MOST_GREETING) greet(&connections[begun]);
        if (!told && live == wanted) {
            printf("{\"ready\":%d}\n", wanted);
            told = true;
        }
        if (awaiting && (complete == wanted || now_us() >= deadline_us)) report();
        int wait_ms = awaiting ? (int)((deadline_us - now_us()) / 1000) + 1 : -1;
        int ready = epoll_wait(poll_fd, found, 256, wait_ms);
        for (int i = 0; i < ready; i++) {
            if (found[i].data.ptr)
                readable(found[i].data.ptr);
            else
                commands();
        }
    }
}
