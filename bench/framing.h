/* How bytes become messages: WebSocket frames, HTTP chunks and event streams, NATS lines. Each gives what it used up. */
#ifndef BENCH_FRAMING_H
#define BENCH_FRAMING_H

#include "crowd.h"

/* One whole message: a WebSocket's payload, or a block of an event stream. */
static void message(struct connection *it, const char *text, size_t size);
/* What NATS says besides messages. */
static void nats_line(struct connection *it, const char *line, size_t size);

static void append(char **buffer, size_t *size, size_t *room, const char *more, size_t count) {
    if (*size + count + 1 > *room) *buffer = grown(*buffer, *room = (*size + count + 1) * 2);
    memcpy(*buffer + *size, more, count);
    *size += count;
    (*buffer)[*size] = 0;
}

static void send_frame(int fd, int opcode, const char *payload, size_t size) {
    char head[8] = {(char)(0x80 | opcode), (char)(0x80 | (size < 126 ? size : 126))};
    size_t used = 2;
    if (size >= 126) head[used++] = (char)(size >> 8), head[used++] = (char)size;
    /* Then four zeros: a mask that changes nothing is a mask (RFC 6455, 5.3). */
    send_all(fd, head, used + 4);
    send_all(fd, payload, size);
}

/* A NATS server's stream of lines, which frames may cut anywhere. "MSG subject sid size", then so many bytes. */
static void nats_text(struct connection *it, const char *more, size_t count) {
    append(&it->text, &it->text_size, &it->text_room, more, count);
    char *from = it->text, *end = it->text + it->text_size, *stop;
    while ((stop = memmem(from, (size_t)(end - from), "\r\n", 2))) {
        if (!memcmp(from, "MSG ", 4)) {
            char *number = stop;
            while (number[-1] != ' ') number--;
            size_t size = strtoul(number, NULL, 10);
            if ((size_t)(end - stop) < size + 4) break;
            message(it, stop + 2, size);
            from = stop + size + 4;
        } else {
            nats_line(it, from, (size_t)(stop - from));
            from = stop + 2;
        }
    }
    it->text_size = (size_t)(end - from);
    memmove(it->text, from, it->text_size);
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
        int opcode = head[0] & 0x0f;
        if (opcode == 9)
            send_frame(it->fd, 10, payload, length);
        else if (kind == NATS_WS && opcode <= 2)
            nats_text(it, payload, length);
        else if (opcode == 1)
            message(it, payload, length);
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

#endif
