/* The C reference: what an NFQUEUE daemon costs that does nothing but choose a server and answer with its mark.
 *
 *   reference QUEUE MARK SERVERS     marks are MARK + 1 … MARK + SERVERS
 *
 * As ours: headers only, GSO packets whole, 8 MiB of socket buffer; nft rules rewrite by the mark.
 * Unlike ours: no session table. A hash of the client's address and port chooses. */
#include <arpa/inet.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { COPY = 192, LENGTH = 8192, BUFFER = 8 << 20 };
static uint32_t first_mark, servers;

static uint32_t mix(uint32_t hash)
{
    hash ^= hash >> 16, hash *= 0x7feb352d;
    hash ^= hash >> 15, hash *= 0x846ca68b;
    return hash ^ hash >> 16;
}

static int decide(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *data, void *unused)
{
    (void)message, (void)unused;
    uint32_t id = ntohl(nfq_get_msg_packet_hdr(data)->packet_id), client;
    uint16_t port;
    unsigned char *packet;
    int length = nfq_get_payload(data, &packet);
    int header = length >= 20 ? (packet[0] & 15) * 4 : 0;
    if (header < 20 || length < header + 8)
        return nfq_set_verdict(queue, id, NF_DROP, 0, NULL);
    memcpy(&client, packet + 12, 4);
    memcpy(&port, packet + header, 2);
    uint32_t server = mix(client ^ (uint32_t)port << 16 ^ port) % servers;
    return nfq_set_verdict2(queue, id, NF_ACCEPT, first_mark + 1 + server, 0, NULL);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return fprintf(stderr, "usage: reference QUEUE MARK SERVERS\n"), 2;
    first_mark = strtoul(argv[2], NULL, 0), servers = strtoul(argv[3], NULL, 0);
    struct nfq_handle *handle = nfq_open();
    struct nfq_q_handle *queue = handle ? nfq_create_queue(handle, atoi(argv[1]), decide, NULL) : NULL;
    if (!queue || nfq_set_mode(queue, NFQNL_COPY_PACKET, COPY) < 0 || nfq_set_queue_maxlen(queue, LENGTH) < 0 ||
        nfq_set_queue_flags(queue, NFQA_CFG_F_GSO, NFQA_CFG_F_GSO) < 0)
        return perror("reference"), 1;
    int netlink = nfq_fd(handle), size = BUFFER;
    setsockopt(netlink, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    char message[4096] __attribute__((aligned));
    for (;;) {
        ssize_t got = recv(netlink, message, sizeof message, 0);
        if (got > 0)
            nfq_handle_packet(handle, message, got);
    }
}
