/* Turns for a thread that is inside a call of somebody else's library, which computes for long: a timer
 * interrupts it, and it offers its processor. Threads of movers do without one: see `move.c`. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "turns.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

void ask_for_slices(int64_t ns) {
  struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } wanted = {.size = sizeof wanted};
  if (syscall(SYS_sched_getattr, 0, &wanted, sizeof wanted, 0)) return;
  wanted.size = sizeof wanted;
  wanted.runtime = (uint64_t)ns;
  syscall(SYS_sched_setattr, 0, &wanted, 0);
}

enum { TURN_NS = 700000 }; /* how long it keeps a processor that others may want */

static _Thread_local int64_t since; /* what the thread had computed when its last turn began */

static int64_t computed_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* The timer goes on while others have the processor: a thread that comes back keeps it for a turn. */
static void offer_processor(int signal) {
  (void)signal;
  int before = errno;
  int64_t now = computed_ns();
  if (now - since >= TURN_NS * 3 / 4) {
    sched_yield();
    since = now;
  }
  errno = before;
}

/* 0, or an errno with which there are no turns: EBUSY when the signal is somebody else's already. */
int kv_turns_begin(timer_t *timer) {
  int number = SIGRTMIN + 9;
  struct sigaction ours = {.sa_handler = offer_processor, .sa_flags = SA_RESTART}, theirs;
  if (sigaction(number, NULL, &theirs)) return errno;
  if (theirs.sa_handler != SIG_DFL && theirs.sa_handler != offer_processor) return EBUSY;
  if (sigaction(number, &ours, NULL)) return errno;
  struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = number};
  event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
  ask_for_slices(TURN_NS);
  since = computed_ns();
  if (timer_create(CLOCK_MONOTONIC, &event, timer)) return errno;
  struct timespec turn = {0, TURN_NS};
  struct itimerspec each = {turn, turn};
  timer_settime(*timer, 0, &each, NULL);
  return 0;
}

void kv_turns_end(timer_t timer) { timer_delete(timer); }
