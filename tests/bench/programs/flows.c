/* Many TCP flows of 40-byte packets, as fast as they get through and no faster.
 *
 *   flows open|run INTERFACE GATEWAY_MAC VIP PORT FLOWS SECONDS WINDOW COUNTER...
 *
 * "open" sends a SYN of each flow, "run" ACKs of them in turn for SECONDS. A flow is a client address of
 * 198.18.0.0/15 and a port. COUNTER files are the servers' /proc/PID/net/dev: what eth0 has received there tells how
 * many packets have arrived, and at most WINDOW are under way, so that nothing is measured but what gets through.
 * Packets that are not there after a tenth of a second are given up as lost. Prints one JSON object. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, PORTS = 50000, STEP = 7919 };
struct frame {
    struct ether_header ether;
    struct iphdr ip;
    struct tcphdr tcp;
} __attribute__((packed));
_Static_assert(sizeof(struct frame) == 54, "a 40-byte packet");

static int counters[8], counter_count;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static uint32_t add(uint32_t sum, const void *data, size_t size)
{
    const uint16_t *words = data;
    for (size_t i = 0; i < size / 2; i++)
        sum += words[i];
    return sum;
}

static uint16_t fold(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

static uint64_t arrived(void)
{
    uint64_t total = 0;
    for (int i = 0; i < counter_count; i++) {
        char text[2048], *line;
        ssize_t size = pread(counters[i], text, sizeof text - 1, 0);
        if (size <= 0)
            fail("counter");
        text[size] = 0;
        if ((line = strstr(text, "eth0:"))) {
            strtoull(line + 5, &line, 10); /* bytes */
            total += strtoull(line, NULL, 10);
        }
    }
    return total;
}

static void make(struct frame *frame, uint32_t flow, bool opens, const struct ether_header *ether, uint32_t vip,
                 int port)
{
    memset(frame, 0, sizeof *frame);
    frame->ether = *ether;
    frame->ip = (struct iphdr){.version = 4,
                               .ihl = 5,
                               .tot_len = htons(40),
                               .frag_off = htons(IP_DF),
                               .ttl = 64,
                               .protocol = IPPROTO_TCP,
                               .saddr = htonl(0xc6120001 + flow / PORTS),
                               .daddr = vip};
    frame->tcp = (struct tcphdr){.source = htons(1024 + flow % PORTS),
                                 .dest = htons(port),
                                 .doff = 5,
                                 .seq = htonl(opens ? 1000 : 1001),
                                 .ack_seq = htonl(opens ? 0 : 2001),
                                 .syn = opens,
                                 .ack = !opens,
                                 .window = htons(1024)};
    uint16_t check = fold(add(0, &frame->ip, 20));
    frame->ip.check = check;
    check = fold(add(htons(IPPROTO_TCP) + htons(20), &frame->ip.saddr, 8) + add(0, &frame->tcp, 20));
    frame->tcp.check = check;
}

int main(int argc, char **argv)
{
    if (argc < 10)
        return fprintf(stderr, "usage: see the head of flows.c\n"), 2;
    bool opens = !strcmp(argv[1], "open");
    struct ether_header ether = {.ether_type = htons(ETHERTYPE_IP)};
    unsigned mac[6];
    if (sscanf(argv[3], "%x:%x:%x:%x:%x:%x", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) != 6)
        return fprintf(stderr, "flows: %s is no hardware address\n", argv[3]), 2;
    for (int i = 0; i < 6; i++)
        ether.ether_dhost[i] = mac[i];
    uint32_t vip = inet_addr(argv[4]), flows = atoi(argv[6]), window = atoi(argv[8]);
    int port = atoi(argv[5]);
    double seconds = atof(argv[7]);
    for (int i = 9; i < argc && counter_count < 8; i++)
        if ((counters[counter_count++] = open(argv[i], O_RDONLY)) < 0)
            fail(argv[i]);

    int raw = socket(AF_PACKET, SOCK_RAW, 0), yes = 1;
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[2])};
    if (raw < 0 || bind(raw, (struct sockaddr *)&to, sizeof to) < 0)
        fail("packet socket");
    setsockopt(raw, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes);

    struct mmsghdr messages[BATCH] = {0};
    struct iovec parts[BATCH];
    struct frame frames[BATCH];
    for (int i = 0; i < BATCH; i++)
        parts[i] = (struct iovec){&frames[i], sizeof frames[i]},
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    uint64_t sent = 0, lost = 0, before = arrived(), got = 0;
    double start = now(), progress = start, end = start + seconds, time = start;
    for (; opens ? sent < flows : time < end; time = now()) {
        uint64_t seen = arrived() - before;
        if (seen != got)
            got = seen, progress = time;
        uint64_t under_way = sent > got + lost ? sent - got - lost : 0;
        if (under_way + BATCH > window) {
            if (time - progress > 0.1)
                lost += under_way, progress = time;
            usleep(20);
            continue;
        }
        int count = 0;
        /* In turn, but not neighbours: STEP is prime, so every flow comes once before any comes again. */
        for (; count < BATCH && (!opens || sent + count < flows); count++)
            make(&frames[count], (sent + count) * STEP % flows, opens, &ether, vip, port);
        int done = sendmmsg(raw, messages, count, 0);
        if (done < 0 && errno != ENOBUFS) /* the next node's backlog is full */
            fail("sendmmsg");
        if (done < 0)
            usleep(20);
        else
            sent += done;
    }
    double waited = now();
    while (arrived() - before < sent - lost && now() - waited < 0.2)
        usleep(100);
    got = arrived() - before;
    double took = (opens ? now() : time) - start;
    printf("{\"sent\": %lu, \"arrived\": %lu, \"seconds\": %.6f}\n", sent, got, took);
}
