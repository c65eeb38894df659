/* Writers: C keep-alive connections that create records or publish events, one request at a time each.
 *
 *   create STYLE PORT PATH TOKEN CLIENTS SECONDS COUNT RATE BATCH PAD FIRST
 *                                                            STYLE: snackbase pocketbase nchan nats get
 *
 * Ends after SECONDS or COUNT requests (0 = no limit of that kind). RATE 0: each writer sends its next request when it
 * has the answer to the last; else requests are due at RATE a second in all and times count from when they were due.
 * BATCH > 1: so many records a request, in one transaction. PAD: letters in the records' text; for nchan and nats the
 * event's whole size, since they pass on what they are given. TOKEN "@file": a file with one token a line, used in turn.
 * PATH: for nats the subject, for get what is asked for. Prints one JSON line.
 *
 * Records carry "seqno" (FIRST + 1, + 2, + 3 … of each "writer") and "sent_us", by which the subscribers check what they hear.
 */
#include "common.h"

enum { ROOM = 1 << 18, LARGEST_REQUEST = 100 * (MOST_BYTES + 200), NOTE_BYTES = 300, PATIENCE_S = 60 };
enum style { SNACKBASE, POCKETBASE, NCHAN, NATS, GET, STYLES };
static const char *const style_names[] = {"snackbase", "pocketbase", "nchan", "nats", "get"};

struct writer {
    int fd, number;
    bool busy;
    uint32_t seqno;
    int64_t since_us;
    char *answer;
    size_t size;
};

static enum style style;
static const char *path;
static char **tokens;
static int token_count, port, batch, pad, poll_fd;
static int64_t requests, done, failed;
static uint32_t *samples;
static char note[NOTE_BYTES];

static size_t record(char *text, size_t room, struct writer *it, int64_t sent_us) {
    return (size_t)snprintf(text, room, "{\"seqno\":%u,\"writer\":%d,\"sent_us\":%lld,\"tenant\":\"acme\",\"body\":\"%0*d\"}",
                            ++it->seqno, it->number, (long long)sent_us, pad, 0);
}

static size_t records(char *body, struct writer *it, int64_t sent_us) {
    size_t size = 0;
    bool pocketbase = style == POCKETBASE;
    if (style == NCHAN) {
        event_text(body, ++it->seqno, it->number, sent_us, pad);
        return (size_t)pad;
    }
    if (style == GET) return 0;
    if (batch > 1) size += (size_t)sprintf(body, pocketbase ? "{\"requests\":[" : "{\"records\":[");
    for (int i = 0; i < batch; i++) {
        if (i) body[size++] = ',';
        if (batch > 1 && pocketbase)
            size += (size_t)sprintf(body + size, "{\"method\":\"POST\",\"url\":\"%s\",\"body\":", path);
        size += record(body + size, ROOM - size, it, sent_us);
        if (batch > 1 && pocketbase) body[size++] = '}';
    }
    if (batch > 1) size += (size_t)sprintf(body + size, "]}");
    return size;
}

static size_t over_http(char *request, struct writer *it, int64_t sent_us) {
    static char body[ROOM];
    size_t size = records(body, it, sent_us);
    const char *target = batch == 1 ? path : style == POCKETBASE ? "/api/batch" : NULL;
    char whole[300], kind[100] = "";
    if (!target) snprintf(whole, sizeof whole, "%s/batch", path), target = whole;
    if (size)
        snprintf(kind, sizeof kind, "Content-Type: %s\r\nContent-Length: %zu\r\n",
                 style == NCHAN ? "text/plain" : "application/json", size);
    int head = snprintf(request, 8192, "%s %s HTTP/1.1\r\nHost: bench\r\nAuthorization: %s%s\r\n%s\r\n",
                        style == GET ? "GET" : "POST", target, style == POCKETBASE ? "" : "Bearer ",
                        tokens[requests % token_count], kind);
    memcpy(request + head, body, size);
    return (size_t)head + size;
}

static size_t over_nats(char *request, struct writer *it, int64_t sent_us) {
    size_t size = 0;
    for (int i = 0; i < batch; i++) {
        size += (size_t)sprintf(request + size, "PUB %s %d\r\n", path, pad);
        event_text(request + size, ++it->seqno, it->number, sent_us, pad);
        size += (size_t)pad;
        size += (size_t)sprintf(request + size, "\r\n");
    }
    return size;
}

static void begin(struct writer *it, int64_t sent_us) {
    static char request[LARGEST_REQUEST];
    size_t size = (style == NATS ? over_nats : over_http)(request, it, sent_us);
    it->busy = true, it->since_us = sent_us, it->size = 0;
    requests++;
    send_all(it->fd, request, size);
}

/* NATS acknowledges each event with +OK, and now and then asks whether we live. */
static bool acknowledged(struct writer *it) {
    char *ping = strstr(it->answer, "PING\r\n");
    if (ping) {
        send_all(it->fd, "PONG\r\n", 6);
        memmove(ping, ping + 6, strlen(ping + 6) + 1);
        it->size -= 6;
    }
    return it->size >= 5 * (size_t)batch || strstr(it->answer, "-ERR");
}

/* Whether the whole answer is there: by its announced length, or by the last chunk. */
static bool answered(struct writer *it) {
    it->answer[it->size] = 0;
    if (style == NATS) return acknowledged(it);
    char *end = strstr(it->answer, "\r\n\r\n");
    if (!end) return false;
    char *length = strcasestr(it->answer, "\r\ncontent-length:");
    if (length && length < end) return it->size >= (size_t)(end + 4 - it->answer) + strtoul(length + 17, NULL, 10);
    return it->size >= 5 && !memcmp(it->answer + it->size - 5, "0\r\n\r\n", 5);
}

static void introduce(struct writer *it) {
    static const char hello[] = "CONNECT {\"verbose\":true,\"pedantic\":false}\r\n";
    send_all(it->fd, hello, sizeof hello - 1);
    for (it->size = 0; !strstr(it->answer, "+OK\r\n");) {
        ssize_t got = recv(it->fd, it->answer + it->size, ROOM - 1 - it->size, 0);
        if (got <= 0) fail("NATS did not answer");
        it->answer[it->size += (size_t)got] = 0;
    }
    it->size = 0;
}

static void join(struct writer *it) {
    it->fd = dial(port), it->size = 0, it->answer[0] = 0;
    if (style == NATS) introduce(it);
    unblock(it->fd);
    struct epoll_event wish = {.events = EPOLLIN, .data.ptr = it};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, it->fd, &wish) < 0) fail("epoll_ctl");
}

static void readable(struct writer *it) {
    ssize_t got = recv(it->fd, it->answer + it->size, ROOM - 1 - it->size, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0 && it->busy) fail("the server closed a writer's connection");
    if (got <= 0) {
        /* At a slow rate some have nothing to send for longer than a server waits. */
        close(it->fd);
        join(it);
        return;
    }
    it->size += (size_t)got;
    if (!it->busy) {
        /* A question that NATS asks between two answers. */
        if (answered(it)) it->size = 0;
        return;
    }
    if (!answered(it)) return;
    it->busy = false;
    if (style == NATS ? strstr(it->answer, "-ERR") != NULL : it->answer[9] != '2') {
        failed++;
        it->seqno -= (uint32_t)batch;
        keep_note(note, sizeof note, it->answer, it->size);
        return;
    }
    it->size = 0;
    if (done % 65536 == 0) samples = grown(samples, (size_t)(done + 65536) * sizeof *samples);
    samples[done++] = clamped(now_us() - it->since_us);
}

static void summary(double elapsed) {
    sort_us(samples, (size_t)done);
    printf("{\"requests\":%lld,\"created\":%lld,\"failed\":%lld,\"seconds\":%.6f,\"p50_us\":%u,\"p99_us\":%u,"
           "\"max_us\":%u,\"note\":\"%s\"}\n",
           (long long)requests, (long long)done * batch, (long long)failed, elapsed,
           percentile(samples, (size_t)done, 50), percentile(samples, (size_t)done, 99),
           percentile(samples, (size_t)done, 100), note);
}

int main(int count, char **words) {
    if (count != 12) {
        fprintf(stderr, "usage: create STYLE PORT PATH TOKEN CLIENTS SECONDS COUNT RATE BATCH PAD FIRST\n");
        return 2;
    }
    for (int i = 0; i < STYLES; i++)
        if (!strcmp(words[1], style_names[i])) style = (enum style)i;
    port = atoi(words[2]), path = words[3], tokens = &words[4], token_count = 1;
    if (words[4][0] == '@') tokens = NULL, token_count = lines_of(words[4] + 1, &tokens);
    int clients = atoi(words[5]);
    poll_fd = epoll_create1(0);
    double seconds = atof(words[6]), rate = atof(words[8]);
    int64_t most = atoll(words[7]);
    batch = atoi(words[9]), pad = atoi(words[10]);
    if (batch < 1 || batch > 100) fail("BATCH is 1 to 100");
    struct writer *writers = calloc((size_t)clients, sizeof *writers);
    for (int i = 0; i < clients; i++) {
        writers[i] = (struct writer){.number = i, .seqno = (uint32_t)atoi(words[11]), .answer = grown(NULL, ROOM)};
        join(&writers[i]);
    }
    int64_t start = now_us(), end = seconds > 0 ? start + (int64_t)(seconds * 1e6) : INT64_MAX, last = start;
    for (;;) {
        int64_t now = now_us(), due = now;
        bool over = now >= end || (most && requests >= most), busy = false;
        for (int i = 0; i < clients; i++) {
            if (rate > 0) due = start + (int64_t)((double)requests * 1e6 / rate);
            if (!writers[i].busy && !over && due <= now) {
                begin(&writers[i], rate > 0 ? due : now_us());
                over = most && requests >= most;
            }
            busy = busy || writers[i].busy;
        }
        if (over && !busy) break;
        if (now > last + (int64_t)PATIENCE_S * 1000000) fail("no answer for a minute");
        struct epoll_event found[64];
        int64_t wait_us = rate > 0 && !over && due > now ? due - now : 1000000;
        struct timespec wait = {.tv_sec = wait_us / 1000000, .tv_nsec = wait_us % 1000000 * 1000};
        int ready = epoll_pwait2(poll_fd, found, 64, &wait, NULL);
        for (int i = 0; i < ready; i++) readable(found[i].data.ptr);
        if (ready > 0) last = now_us();
    }
    summary((double)(now_us() - start) / 1e6);
    return 0;
}
