/* Moves the KV of a sequence and takes its digest on the way: one pass over memory, no Python, and
 * no interpreter lock while it lasts. `plain.py` says the same in Python; tests hold them equal.
 *
 * The digest is XXH3-64 with its default secret, after the algorithm's description by its author
 * (xxHash, doc/xxhash_spec.md). It is incremental: a layer arrives in pieces of any length. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "turns.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "digests are of little-endian memory"
#endif

enum {
  STRIPE = 64,          /* bytes that the accumulators take at once */
  STRIPES_A_ROUND = 16, /* (secret - STRIPE) / 8 */
  SHORT = 240,          /* inputs up to here have another digest, which Python takes of `head` */
  CHUNK = 256 << 10,    /* hashed and sent, or received and hashed, while it is in the L2 cache */
  VECTORS = 64,         /* pieces in one system call */
  AHEAD = 2048,         /* bytes that are fetched before they are needed */
  TURN_NS = 400000,     /* how long a thread of movers keeps a processor that others may want */
  LEAD = 4 << 20,       /* bytes that one who reads may be ahead of who copies the same */
  NAP_NS = 50000,
};

/* ---- the shape of a sequence in a pool; see core/splitwise_core/kv.py ---- */

typedef struct {
  uint8_t *pool;
  const uint32_t *blocks;
  uint64_t block_bytes, layer_bytes, token_bytes;
  uint32_t block_tokens, num_tokens;
} kv_span;

/* The memory behind byte `offset` of a layer, and how many bytes follow it there in one piece. */
static uint64_t run_at(const kv_span *span, uint32_t layer, uint64_t offset, uint8_t **at) {
  uint64_t index = offset / span->layer_bytes, within = offset % span->layer_bytes;
  uint8_t *block = span->pool + span->blocks[index] * span->block_bytes + layer * span->layer_bytes;
  uint64_t tokens = span->num_tokens - index * span->block_tokens;
  if (tokens >= span->block_tokens) {
    *at = block + within;
    return span->layer_bytes - within;
  }
  uint64_t keys = tokens * span->token_bytes; /* a partly filled block: its K, a gap, its V */
  if (within < keys) {
    *at = block + within;
    return keys - within;
  }
  *at = block + span->layer_bytes / 2 + (within - keys);
  return 2 * keys - within;
}

/* ---- the digest ---- */

typedef struct {
  uint64_t lanes[8];
  uint64_t total;
  uint32_t stripes;        /* of this round */
  uint32_t pending;        /* bytes in `tail`; a stripe is taken when a byte follows it */
  uint8_t before[STRIPE];  /* the stripe that was taken last */
  uint8_t tail[STRIPE];
  uint8_t head[SHORT + 16]; /* the first bytes of the input */
} kv_digest;

static const uint64_t P32_1 = 0x9E3779B1u, P32_2 = 0x85EBCA77u, P32_3 = 0xC2B2AE3Du;
static const uint64_t P64_1 = 0x9E3779B185EBCA87u, P64_2 = 0xC2B2AE3D27D4EB4Fu,
                      P64_3 = 0x165667B19E3779F9u, P64_4 = 0x85EBCA77C2B2AE63u,
                      P64_5 = 0x27D4EB2F165667C5u;

static const uint8_t SECRET[192] __attribute__((aligned(64))) = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static uint64_t word(const uint8_t *at) {
  uint64_t value;
  memcpy(&value, at, 8);
  return value;
}

/* Takes `count` stripes; with `out` they are written there too, exactly as they were taken. */
typedef void take_stripes(kv_digest *digest, const uint8_t *in, uint8_t *out, uint64_t count);

static const uint8_t *const LAST_SECRET = SECRET + sizeof SECRET - STRIPE;

static void take_one(uint64_t *lanes, const uint8_t *secret, const uint8_t *stripe) {
  for (int i = 0; i < 8; i++) {
    uint64_t data = word(stripe + 8 * i), keyed = data ^ word(secret + 8 * i);
    lanes[i ^ 1] += data;
    lanes[i] += (keyed & 0xFFFFFFFFu) * (keyed >> 32);
  }
}

static void take_portable(kv_digest *digest, const uint8_t *in, uint8_t *out, uint64_t count) {
  uint64_t *lanes = digest->lanes;
  for (; count; count--, in += STRIPE) {
    uint8_t stripe[STRIPE]; /* read once: what is written is what was taken */
    memcpy(stripe, in, STRIPE);
    if (out) memcpy(out, stripe, STRIPE), out += STRIPE;
    take_one(lanes, SECRET + 8 * digest->stripes, stripe);
    if (++digest->stripes == STRIPES_A_ROUND) {
      for (int i = 0; i < 8; i++)
        lanes[i] = (lanes[i] ^ (lanes[i] >> 47) ^ word(LAST_SECRET + 8 * i)) * P32_1;
      digest->stripes = 0;
    }
  }
}

#if defined(__x86_64__)
__attribute__((target("avx2"), always_inline)) static inline __m256i scrambled(
    __m256i lanes, const uint8_t *secret) {
  __m256i prime = _mm256_set1_epi64x((long long)P32_1);
  __m256i mixed = _mm256_xor_si256(lanes, _mm256_srli_epi64(lanes, 47));
  mixed = _mm256_xor_si256(mixed, _mm256_loadu_si256((const __m256i *)secret));
  __m256i high = _mm256_mul_epu32(_mm256_srli_epi64(mixed, 32), prime);
  return _mm256_add_epi64(_mm256_mul_epu32(mixed, prime), _mm256_slli_epi64(high, 32));
}

/* A copy that is larger than the cache had better go past it: else each line is read before it is
 * written. The compiler drops the branches: `out` and `past_cache` are constants where it is called.
 * The lanes stay in registers from the first stripe to the last. */
__attribute__((target("avx2"), always_inline)) static inline void take_avx2(
    kv_digest *digest, const uint8_t *in, uint8_t *out, uint64_t count, int past_cache) {
  __m256i low = _mm256_loadu_si256((const __m256i *)digest->lanes);
  __m256i high = _mm256_loadu_si256((const __m256i *)(digest->lanes + 4));
  uint32_t stripes = digest->stripes;
  while (count) {
    uint32_t left = STRIPES_A_ROUND - stripes, now = count < left ? (uint32_t)count : left;
    const uint8_t *secret = SECRET + 8 * stripes;
    for (uint32_t n = 0; n < now; n++, in += STRIPE, secret += 8) {
      _mm_prefetch((const char *)in + AHEAD, _MM_HINT_T0);
      __m256i a = _mm256_loadu_si256((const __m256i *)in);
      __m256i b = _mm256_loadu_si256((const __m256i *)(in + 32));
      if (out) {
        __m256i *to = (__m256i *)out;
        if (past_cache) {
          _mm256_stream_si256(to, a);
          _mm256_stream_si256(to + 1, b);
        } else {
          _mm256_storeu_si256(to, a);
          _mm256_storeu_si256(to + 1, b);
        }
        out += STRIPE;
      }
      __m256i ka = _mm256_xor_si256(a, _mm256_loadu_si256((const __m256i *)secret));
      __m256i kb = _mm256_xor_si256(b, _mm256_loadu_si256((const __m256i *)(secret + 32)));
      low = _mm256_add_epi64(low, _mm256_shuffle_epi32(a, 0x4E));
      high = _mm256_add_epi64(high, _mm256_shuffle_epi32(b, 0x4E));
      low = _mm256_add_epi64(low, _mm256_mul_epu32(ka, _mm256_srli_epi64(ka, 32)));
      high = _mm256_add_epi64(high, _mm256_mul_epu32(kb, _mm256_srli_epi64(kb, 32)));
    }
    count -= now, stripes += now;
    if (stripes == STRIPES_A_ROUND) {
      low = scrambled(low, LAST_SECRET);
      high = scrambled(high, LAST_SECRET + 32);
      stripes = 0;
    }
  }
  _mm256_storeu_si256((__m256i *)digest->lanes, low);
  _mm256_storeu_si256((__m256i *)(digest->lanes + 4), high);
  digest->stripes = stripes;
}

__attribute__((target("avx2"))) static void read_avx2(kv_digest *digest, const uint8_t *in,
                                                      uint8_t *out, uint64_t count) {
  (void)out;
  take_avx2(digest, in, NULL, count, 0);
}

__attribute__((target("avx2"))) static void copy_avx2(kv_digest *digest, const uint8_t *in,
                                                      uint8_t *out, uint64_t count) {
  take_avx2(digest, in, out, count, 0);
}

__attribute__((target("avx2"))) static void copy_past_cache_avx2(kv_digest *digest,
                                                                 const uint8_t *in, uint8_t *out,
                                                                 uint64_t count) {
  take_avx2(digest, in, out, count, 1);
}
#endif

static take_stripes *taker(const uint8_t *out, int past_cache) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    if (!out) return read_avx2;
    return past_cache && (uintptr_t)out % 32 == 0 ? copy_past_cache_avx2 : copy_avx2;
  }
#endif
  (void)out, (void)past_cache;
  return take_portable;
}

/* The next `length` bytes; with `out` they are written there too, exactly as they were taken. */
static void update(kv_digest *digest, const uint8_t *in, uint8_t *out, uint64_t length,
                   int past_cache) {
  if (digest->total < SHORT) {
    uint64_t room = sizeof digest->head - digest->total;
    memcpy(digest->head + digest->total, in, length < room ? length : room);
  }
  digest->total += length;
  while (length) {
    if (digest->pending == STRIPE) {
      taker(NULL, 0)(digest, digest->tail, NULL, 1);
      memcpy(digest->before, digest->tail, STRIPE);
      digest->pending = 0;
    }
    if (digest->pending == 0 && length > STRIPE) {
      uint64_t stripes = (length - 1) / STRIPE, bytes = stripes * STRIPE;
      taker(out, past_cache)(digest, in, out, stripes);
      memcpy(digest->before, out ? out + bytes - STRIPE : in + bytes - STRIPE, STRIPE);
      in += bytes, length -= bytes;
      if (out) out += bytes;
    }
    uint64_t room = STRIPE - digest->pending, now = length < room ? length : room;
    memcpy(digest->tail + digest->pending, in, now);
    if (out) memcpy(out, digest->tail + digest->pending, now), out += now;
    digest->pending += (uint32_t)now;
    in += now, length -= now;
  }
}

void kv_digest_begin(kv_digest *digest) {
  uint64_t lanes[8] = {P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1};
  memset(digest, 0, sizeof *digest);
  memcpy(digest->lanes, lanes, sizeof lanes);
}

/* The digest so far, of more than SHORT bytes. */
uint64_t kv_digest_value(const kv_digest *digest) {
  uint64_t lanes[8], result = digest->total * P64_1;
  uint8_t last[STRIPE];
  memcpy(lanes, digest->lanes, sizeof lanes);
  memcpy(last, digest->before + digest->pending, STRIPE - digest->pending);
  memcpy(last + STRIPE - digest->pending, digest->tail, digest->pending);
  take_one(lanes, LAST_SECRET - 7, last);
  for (int i = 0; i < 4; i++) {
    unsigned __int128 product =
        (unsigned __int128)(lanes[2 * i] ^ word(SECRET + 11 + 16 * i)) *
        (lanes[2 * i + 1] ^ word(SECRET + 11 + 16 * i + 8));
    result += (uint64_t)product ^ (uint64_t)(product >> 64);
  }
  result = (result ^ (result >> 37)) * 0x165667919E3779F9u;
  return result ^ (result >> 32);
}

/* ---- moves ---- */

typedef struct {
  uint64_t at;              /* bytes of the layer that have been moved */
  uint64_t end;             /* where this move ends */
  uint64_t hashed;          /* bytes that are in the digest: `at`, or what is about to be sent */
  volatile uint32_t stop;   /* not 0: return soon */
  uint32_t layer;
  int32_t error;            /* errno of a move that broke; 0 */
  kv_digest digest;
} kv_move;

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Lets others have their turn now and then. A kernel with 250 ticks a second looks every 4 ms whether
 * somebody waits for a processor that computes, and a control call waits at each of its hops. Only the
 * threads of movers do so, which are the ones in SCHED_BATCH: the event loop is what they make way for. */
static void take_turns(void) {
  static _Thread_local int makes_way = -1;
  static _Thread_local int64_t since;
  if (makes_way < 0) {
    makes_way = sched_getscheduler(0) == SCHED_BATCH;
    if (makes_way) ask_for_slices(TURN_NS);
  }
  if (!makes_way) return;
  int64_t now = now_ns();
  if (now - since < TURN_NS) return;
  sched_yield();
  since = now_ns();
}

/* Waits until whoever copies the same bytes, and has `taken` so many, is not far behind `at`; 0 when
 * nothing was taken for `patience_ms`. Who comes second then finds the bytes in the cache. */
static int has_kept_pace(const volatile uint64_t *taken, uint64_t at, const kv_move *move,
                         int patience_ms) {
  uint64_t seen = *taken;
  int64_t since = now_ns();
  while (at > seen + LEAD && !move->stop) {
    struct timespec nap = {0, NAP_NS};
    nanosleep(&nap, NULL);
    uint64_t now = *taken;
    if (now != seen) since = now_ns();
    else if (now_ns() - since > patience_ms * 1000000LL) return 0;
    seen = now;
  }
  return 1;
}

/* Takes bytes up to `end` into the digest; with `taken`, in pace with whoever copies them: `before`
 * bytes come before this layer's. Returns 0 when that one did not go on, and the rest was read alone. */
int kv_read(const kv_span *span, kv_move *move, const uint64_t *taken, uint64_t before,
            int patience_ms) {
  int kept = 1;
  while (move->at < move->end && !move->stop) {
    take_turns();
    if (taken && kept) kept = has_kept_pace(taken, before + move->at, move, patience_ms);
    uint8_t *in;
    uint64_t length = least(run_at(span, move->layer, move->at, &in), move->end - move->at);
    length = least(length, CHUNK);
    update(&move->digest, in, NULL, length, 0);
    move->at = move->hashed = move->at + length;
  }
  return kept;
}

/* Copies from another pool, and adds what was copied to `taken`. */
void kv_copy(const kv_span *to, const kv_span *from, kv_move *move, int past_cache,
             uint64_t *taken) {
  while (move->at < move->end && !move->stop) {
    take_turns();
    uint8_t *in, *out;
    uint64_t length = least(run_at(to, move->layer, move->at, &out), move->end - move->at);
    length = least(length, run_at(from, move->layer, move->at, &in));
    length = least(length, CHUNK);
    update(&move->digest, in, out, length, past_cache);
    move->at = move->hashed = move->at + length;
    if (taken) __atomic_fetch_add(taken, length, __ATOMIC_RELAXED);
  }
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

/* Copies `total` bytes out of the pool, to one piece of memory. */
void kv_gather(const kv_span *from, kv_move *move, uint8_t *out, uint64_t total) {
  for (uint64_t end = move->at + total; move->at < end;) {
    uint8_t *in;
    uint64_t length = least(run_at(from, move->layer, move->at, &in), end - move->at);
    update(&move->digest, in, out, length, 0);
    out += length;
    move->at = move->hashed = move->at + length;
  }
}

/* Copies `total` bytes from one piece of memory into the pool. */
void kv_scatter(const kv_span *to, kv_move *move, const uint8_t *in, uint64_t total) {
  for (uint64_t end = move->at + total; move->at < end;) {
    uint8_t *out;
    uint64_t length = least(run_at(to, move->layer, move->at, &out), end - move->at);
    update(&move->digest, in, out, length, 0);
    in += length;
    move->at = move->hashed = move->at + length;
  }
}

/* The pieces of memory behind bytes [at, at + length): how many; `length` may become less. */
static int vectors(const kv_span *span, uint32_t layer, uint64_t at, uint64_t *length,
                   struct iovec *pieces) {
  int count = 0;
  uint64_t found = 0;
  while (found < *length && count < VECTORS) {
    uint8_t *piece;
    uint64_t bytes = least(run_at(span, layer, at + found, &piece), *length - found);
    pieces[count++] = (struct iovec){piece, bytes};
    found += bytes;
  }
  *length = found;
  return count;
}

/* Whether the socket is ready within `patience_ms`; an error shows at the next call to it. */
static int ready(int fd, short events, int patience_ms) {
  struct pollfd one = {fd, events, 0};
  return poll(&one, 1, patience_ms) != 0;
}

/* Sends up to `end`, and returns when that is done, when nothing can be sent for `patience_ms`, or
 * with an error. What is about to be sent is hashed first: the kernel then finds it in the cache. */
void kv_send(const kv_span *span, kv_move *move, int fd, int patience_ms) {
  move->error = 0;
  while (move->at < move->end && !move->stop) {
    take_turns();
    struct iovec pieces[VECTORS];
    uint64_t length = least(CHUNK, move->end - move->at);
    int count = vectors(span, move->layer, move->at, &length, pieces);
    uint64_t skip = move->hashed - move->at;
    for (int i = 0; i < count; i++) {
      uint64_t here = least(skip, pieces[i].iov_len);
      update(&move->digest, (uint8_t *)pieces[i].iov_base + here, NULL, pieces[i].iov_len - here, 0);
      skip -= here;
    }
    move->hashed = move->at + length > move->hashed ? move->at + length : move->hashed;
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};
    ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      move->at += (uint64_t)sent;
    } else if (errno == EAGAIN) {
      if (!ready(fd, POLLOUT, patience_ms)) return;
    } else if (errno != EINTR) {
      move->error = errno;
      return;
    }
  }
}

/* Receives up to `end`, and returns when that is done, when nothing comes for `patience_ms`, or with
 * an error: ENOTCONN for the end of the stream. */
void kv_receive(const kv_span *span, kv_move *move, int fd, int patience_ms) {
  move->error = 0;
  while (move->at < move->end && !move->stop) {
    take_turns();
    struct iovec pieces[VECTORS];
    uint64_t length = least(CHUNK, move->end - move->at);
    int count = vectors(span, move->layer, move->at, &length, pieces);
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = (size_t)count};
    ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
    if (got > 0) {
      uint64_t left = (uint64_t)got;
      for (int i = 0; left; i++) {
        uint64_t here = least(left, pieces[i].iov_len);
        update(&move->digest, pieces[i].iov_base, NULL, here, 0);
        left -= here;
      }
      move->at = move->hashed = move->at + (uint64_t)got;
    } else if (got == 0) {
      move->error = ENOTCONN;
      return;
    } else if (errno == EAGAIN) {
      if (!ready(fd, POLLIN, patience_ms)) return;
    } else if (errno != EINTR) {
      move->error = errno;
      return;
    }
  }
}
