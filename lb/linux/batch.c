/* A batch of queued packets: one system call receives them, one gives the verdicts of all.
 *
 * Packets of known sessions, nearly all there are, are decided here: `known` does what Box.handle_packet
 * (lb/core/box.py) would do with them, in the session table's own memory. All others are Box.handle_packet's; it is
 * the truth, and tests hold `known` to it. The netfilter queue's messages: linux/netfilter/nfnetlink_queue.h. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

enum { BATCH = 64, MESSAGE = 512 }; /* headers are 192 bytes of a message, its other attributes less */
enum { SYN_SEEN = 1, ESTABLISHED, CLOSING }; /* SessionState: SYN, ESTABLISHED, FIN */
enum { STATES = 4 };                         /* these and UDP have timeouts */
enum { SHARD = 3 }; /* bytes from a key's end, as in session.py */
enum { FRAGMENT = 0x3FFF };

/* A row of the session table. lb/linux/datapath.py holds LAYOUT and ROW to those of session.py. */
#define FIELDS(FIELD)                                                                                                  \
    FIELD(double, last_seen)                                                                                           \
    FIELD(uint64_t, packets)                                                                                           \
    FIELD(uint64_t, bytes)                                                                                             \
    FIELD(uint32_t, seq)                                                                                               \
    FIELD(uint32_t, ack)                                                                                               \
    FIELD(uint16_t, server)                                                                                            \
    FIELD(uint8_t, state)                                                                                              \
    FIELD(uint8_t, protocol)                                                                                           \
    FIELD(uint32_t, isn)                                                                                               \
    FIELD(double, created)                                                                                             \
    FIELD(uint8_t, tag)
#define DECLARED(type, name) type name;

struct session {
    FIELDS(DECLARED)
    uint8_t unused[15];
};

struct table { /* of lb.core.session.SessionTable, borrowed */
    PyObject *rows;       /* bytearray */
    PyObject *shards;     /* list of dict[bytes, int]: index[TCP] */
    PyObject *timeouts_s; /* tuple of list[float]: by SessionState from SYN on, then by server */
};

struct segment {
    const uint8_t *key;
    Py_ssize_t key_size;
    uint32_t length, payload, seq, ack;
    uint8_t flags;
};

struct verdict {
    struct nlmsghdr netlink;
    struct nfgenmsg netfilter;
    struct nlattr verdict_attribute;
    struct nfqnl_msg_verdict_hdr verdict;
    struct nlattr mark_attribute;
    uint32_t mark;
};
_Static_assert(sizeof(struct verdict) == 40, "no padding between netlink attributes");

/* Reads a whole TCP header after an IPv4 header without options, or after an IPv6 header. */
static bool read_segment(const uint8_t *packet, Py_ssize_t size, struct segment *segment)
{
    const struct iphdr *ipv4 = (const void *)packet;
    const struct ip6_hdr *ipv6 = (const void *)packet;
    uint32_t start, length;
    if (size < 40)
        return false;
    if (packet[0] == 0x45 && ipv4->protocol == IPPROTO_TCP && !(ntohs(ipv4->frag_off) & FRAGMENT)) {
        start = 20, length = ntohs(ipv4->tot_len);
        segment->key = packet + 12, segment->key_size = 12;
    } else if (packet[0] >> 4 == 6 && ipv6->ip6_nxt == IPPROTO_TCP && size >= 60) {
        start = 40, length = 40 + ntohs(ipv6->ip6_plen);
        segment->key = packet + 8, segment->key_size = 36;
    } else {
        return false;
    }
    uint32_t header = packet[start + 12] / 16 * 4;
    if (header < 20 || start + header > length)
        return false;
    uint32_t numbers[2];
    memcpy(numbers, packet + start + 4, sizeof numbers);
    segment->seq = ntohl(numbers[0]), segment->ack = ntohl(numbers[1]);
    segment->flags = packet[start + 13];
    segment->length = length, segment->payload = length - start - header;
    return true;
}

static double number(PyObject *object)
{
    double value = PyFloat_AsDouble(object);
    if (PyErr_Occurred())
        PyErr_Clear();
    return value;
}

/* The session of a key, or NULL. */
static struct session *find(const struct table *table, const uint8_t *key, Py_ssize_t size)
{
    PyObject *shard = PyList_GET_ITEM(table->shards, key[size - SHARD]);
    PyObject *name = PyBytes_FromStringAndSize((const char *)key, size);
    PyObject *found = name ? PyDict_GetItemWithError(shard, name) : NULL;
    Py_XDECREF(name);
    Py_ssize_t slot = found ? PyLong_AsSsize_t(found) : 0;
    if (PyErr_Occurred())
        PyErr_Clear();
    if (slot <= 0 || slot >= PyByteArray_GET_SIZE(table->rows) / (Py_ssize_t)sizeof(struct session))
        return NULL;
    return (struct session *)PyByteArray_AS_STRING(table->rows) + slot;
}

static bool is_later(uint32_t one, uint32_t other)
{
    return one - other < 0x80000000;
}

/* The server that gets the packet, noted in its session; 0 if that is Box.handle_packet's to say. */
static uint16_t known(const struct table *table, double now, const uint8_t *packet, Py_ssize_t size)
{
    struct segment segment;
    if (!read_segment(packet, size, &segment) || (segment.flags & (TH_ACK | TH_SYN | TH_RST | TH_FIN)) != TH_ACK)
        return 0;
    struct session *session = find(table, segment.key, segment.key_size);
    if (!session || session->state < SYN_SEEN || session->state > CLOSING)
        return 0;
    PyObject *timeouts_s = PyTuple_GET_ITEM(table->timeouts_s, session->state - SYN_SEEN);
    if (session->server >= PyList_GET_SIZE(timeouts_s) ||
        !(now - session->last_seen < number(PyList_GET_ITEM(timeouts_s, session->server))))
        return 0;
    if (session->state == SYN_SEEN)
        session->state = ESTABLISHED, session->ack = segment.ack;
    session->last_seen = now;
    session->packets += 1;
    session->bytes += segment.length;
    if (is_later(segment.seq + segment.payload, session->seq))
        session->seq = segment.seq + segment.payload;
    if (is_later(segment.ack, session->ack))
        session->ack = segment.ack;
    return session->server;
}

/* Finds the identifier and the payload in a message of the queue; false if it is another message. */
static bool read_message(const uint8_t *message, size_t size, uint32_t *id, const uint8_t **payload, size_t *length)
{
    const struct nlmsghdr *netlink = (const void *)message;
    bool identified = false;
    *length = 0;
    if (size < sizeof *netlink || netlink->nlmsg_type != (NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_PACKET))
        return false;
    for (size_t at = NLMSG_HDRLEN + sizeof(struct nfgenmsg); at + NLA_HDRLEN <= size;) {
        const struct nlattr *attribute = (const void *)(message + at);
        size_t end = at + attribute->nla_len;
        if (attribute->nla_len < NLA_HDRLEN || end > size)
            break;
        const uint8_t *value = message + at + NLA_HDRLEN;
        if ((attribute->nla_type & NLA_TYPE_MASK) == NFQA_PACKET_HDR && end - at >= NLA_HDRLEN + sizeof *id) {
            memcpy(id, value, sizeof *id);
            identified = true;
        } else if ((attribute->nla_type & NLA_TYPE_MASK) == NFQA_PAYLOAD) {
            *payload = value, *length = end - at - NLA_HDRLEN;
        }
        at += NLA_ALIGN(attribute->nla_len);
    }
    return identified;
}

static void set_verdict(struct verdict *verdict, uint16_t queue, uint32_t id, uint16_t server, uint32_t mark)
{
    *verdict = (struct verdict){
        .netlink = {sizeof *verdict, NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_VERDICT, NLM_F_REQUEST, 0, 0},
        .netfilter = {AF_UNSPEC, NFNETLINK_V0, htons(queue)},
        .verdict_attribute = {NLA_HDRLEN + sizeof verdict->verdict, NFQA_VERDICT_HDR},
        .verdict = {htonl(server ? NF_ACCEPT : NF_DROP), id},
        .mark_attribute = {NLA_HDRLEN + sizeof verdict->mark, NFQA_MARK},
        .mark = htonl(mark | server),
    };
}

/* What Box.handle_packet says; an exception is reported, and the packet dropped: it must not wait for ever. */
static uint16_t ask(PyObject *decide, PyObject *now, const uint8_t *packet, size_t size)
{
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)packet, size);
    PyObject *answer = bytes ? PyObject_CallFunctionObjArgs(decide, now, bytes, NULL) : NULL;
    long server = answer ? PyLong_AsLong(answer) : 0;
    Py_XDECREF(bytes);
    Py_XDECREF(answer);
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(decide);
        return 0;
    }
    return (uint16_t)server;
}

static bool read_table(PyObject *const *arguments, struct table *table)
{
    *table = (struct table){arguments[0], arguments[1], arguments[2]};
    bool right = PyByteArray_Check(table->rows) && PyList_Check(table->shards) &&
                 PyList_GET_SIZE(table->shards) == 256 && PyTuple_Check(table->timeouts_s) &&
                 PyTuple_GET_SIZE(table->timeouts_s) == STATES;
    for (int state = 0; right && state < STATES; state++)
        right = PyList_Check(PyTuple_GET_ITEM(table->timeouts_s, state));
    if (!right)
        PyErr_SetString(PyExc_TypeError, "a bytearray, a list of 256 dicts and 4 lists of floats are needed");
    return right;
}

static PyObject *drain(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct table table;
    uint8_t messages[BATCH][MESSAGE] __attribute__((aligned(8)));
    struct verdict verdicts[BATCH];
    struct iovec parts[BATCH];
    struct mmsghdr batch[BATCH];
    (void)module;
    if (count != 8)
        return PyErr_Format(PyExc_TypeError, "drain takes 8 arguments");
    int fd = PyLong_AsLong(arguments[0]);
    uint16_t queue = PyLong_AsLong(arguments[1]);
    uint32_t mark = PyLong_AsUnsignedLong(arguments[2]);
    double now = PyFloat_AsDouble(arguments[3]);
    if (PyErr_Occurred() || !read_table(arguments + 4, &table))
        return NULL;
    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){messages[i], MESSAGE};
        batch[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &parts[i], .msg_iovlen = 1}};
    }
    int received = recvmmsg(fd, batch, BATCH, MSG_DONTWAIT, NULL);
    if (received < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
        return PyErr_SetFromErrno(PyExc_OSError);
    long forwarded = 0, asked = 0;
    int decided = 0;
    for (int i = 0; i < received; i++) {
        uint32_t id;
        const uint8_t *packet = NULL;
        size_t size;
        if (!read_message(messages[i], batch[i].msg_len, &id, &packet, &size))
            continue;
        uint16_t server = known(&table, now, packet, size);
        if (server)
            forwarded++;
        else
            server = ask(arguments[7], arguments[3], packet, size), asked++;
        set_verdict(&verdicts[decided++], queue, id, server, mark);
    }
    if (decided && send(fd, verdicts, decided * sizeof *verdicts, 0) < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    return Py_BuildValue("ll", forwarded, asked);
}

static PyObject *known_py(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct table table;
    (void)module;
    if (count != 5 || !PyBytes_Check(arguments[1]))
        return PyErr_Format(PyExc_TypeError, "known takes a time, bytes, and a table's parts");
    double now = PyFloat_AsDouble(arguments[0]);
    if (PyErr_Occurred() || !read_table(arguments + 2, &table))
        return NULL;
    const uint8_t *packet = (const uint8_t *)PyBytes_AS_STRING(arguments[1]);
    return PyLong_FromLong(known(&table, now, packet, PyBytes_GET_SIZE(arguments[1])));
}

static PyMethodDef functions[] = {
    {"drain", (PyCFunction)(void (*)(void))drain, METH_FASTCALL, NULL},
    {"known", (PyCFunction)(void (*)(void))known_py, METH_FASTCALL, NULL},
    {0},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "batch", NULL, -1, functions, NULL, NULL, NULL, NULL};

static bool add_field(PyObject *layout, const char *name, size_t offset, size_t size)
{
    PyObject *place = Py_BuildValue("nn", (Py_ssize_t)offset, (Py_ssize_t)size);
    bool added = place && PyDict_SetItemString(layout, name, place) == 0;
    Py_XDECREF(place);
    return added;
}

#define AND_ADDED(type, name) &&add_field(layout, #name, offsetof(struct session, name), sizeof(type))

PyMODINIT_FUNC PyInit_batch(void)
{
    PyObject *made = PyModule_Create(&module);
    PyObject *layout = PyDict_New();
    if (!(made && layout FIELDS(AND_ADDED)) || PyModule_AddObjectRef(made, "LAYOUT", layout) < 0 ||
        PyModule_AddIntConstant(made, "ROW", sizeof(struct session)) < 0)
        Py_CLEAR(made);
    Py_XDECREF(layout);
    return made;
}
