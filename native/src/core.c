/* Making and ending a core: memory, configuration, thread. Nothing here is on the cycle thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "actuator.h"
#include "checksum.h"
#include "burst.h"
#include "clock.h"
#include "config.h"
#include "core.h"
#include "cycle.h"
#include "descriptor.h"
#include "device.h"
#include "draw.h"
#include "exchange.h"
#include "follow.h"
#include "guard.h"
#include "layout.h"
#include "limiter.h"
#include "mailbox.h"
#include "park.h"
#include "post.h"
#include "relaxed.h"
#include "relay.h"
#include "rest.h"
#include "sensor.h"
#include "setpoint.h"
#include "state.h"
#include "statistics.h"
#include "store.h"
#include "timing.h"
#include "twin.h"
#include "world.h"

static void copy_doubles(double *to, const double *from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        to[i] = from ? from[i] : NAN;
}

static int make_sensor(struct inphase_core *core, uint32_t index,
                       const struct inphase_sensor_config *config, bool virtual_time)
{
    struct sensor *sensor = &core->sensor[index];
    int rc = 0;

    /* for a worker's sensor only the model of the acquisition is used */
    if (config->worker)
        sensor->parser.exchange.spec = (struct inphase_exchange){
            .acquire = config->exchange.acquire,
            .acquire_ns = config->exchange.acquire_ns,
            .reply_min_ns = config->exchange.reply_min_ns,
            .sequence_type = virtual_time ? INPHASE_U32 : 0,
        };
    else
        rc = exchange_copy(&sensor->parser.exchange, &config->exchange);
    if (rc < 0)
        return rc;
    sensor->earliest_ns = sensor->parser.exchange.spec.reply_min_ns;
    if (sensor->parser.exchange.spec.acquire == INPHASE_ACQUIRE_TRIGGER &&
        sensor->parser.exchange.spec.acquire_ns > sensor->earliest_ns)
        sensor->earliest_ns = sensor->parser.exchange.spec.acquire_ns;
    if (core->device[config->device].sensor >= 0)
        return -EINVAL;
    core->device[config->device].sensor = (int)index;
    sensor->device = &core->device[config->device];
    if (config->worker && !virtual_time)
        sensor->device->ops = &worker_ops;
    sensor->index = index;
    sensor->channels = config->channels;
    for (uint32_t c = 0; c < config->channels; c++)
        sensor->offset[c] = config->offset ? config->offset[c] : 8 * c;
    sensor->payload = config->payload;
    sensor->free_running = config->free_running;
    sensor->trigger_ns = config->trigger_ns;
    sensor->every = config->every;
    sensor->latency_cycles = config->latency_cycles;
    sensor->frozen_after = config->frozen_after;
    sensor->max_age_ns = config->max_age_ns;
    sensor->recover = config->recover;
    sensor->newest = sensor->early = (struct sample){
        .sequence = -1,
        .cycle = -1,
        .triggered_ns = INPHASE_ABSENT,
        .acquired_ns = INPHASE_ABSENT,
        .received_ns = INPHASE_ABSENT,
    };
    sensor->cycle = -1;
    copy_doubles(sensor->low, config->low, config->channels);
    copy_doubles(sensor->high, config->high, config->channels);
    copy_doubles(sensor->rate, config->rate, config->channels);
    rc = burst_make(&sensor->burst, config);
    return rc == 0 && virtual_time ? twin_make(sensor, config) : rc;
}

/* its commands and its stop, held in place */
static void copy_packets(struct actuator *actuator, const struct inphase_actuator_config *config)
{
    actuator->encoding = config->encoding;
    if (config->encoding.checksum.kind)
        checksum_make(&actuator->checksum, &config->encoding.checksum);
    if (config->encoding.packet_size)
        memcpy(actuator->packet, config->encoding.packet, config->encoding.packet_size);
    if (config->encoding.fields)
        memcpy(actuator->field, config->encoding.field,
               config->encoding.fields * sizeof *actuator->field);
    actuator->stop = config->stop;
    if (config->stop.kind == INPHASE_STOP_BYTES)
        memcpy(actuator->stop_bytes, config->stop.bytes, config->stop.size);
    actuator->stop.bytes = actuator->stop_bytes;
    actuator->encoding.packet = actuator->packet;
    actuator->encoding.field = actuator->field;
}

static int make_actuator(struct inphase_core *core, uint32_t index,
                         const struct inphase_actuator_config *config, bool virtual_time)
{
    struct actuator *actuator = &core->actuator[index];
    bool is_position = config->limits[0].mode == INPHASE_MODE_POSITION;

    if (core->device[config->device].actuator >= 0)
        return -EINVAL;
    core->device[config->device].actuator = (int)index;
    actuator->device = &core->device[config->device];
    actuator->index = index;
    actuator->channels = config->channels;
    actuator->first_value = core->values;
    core->values += config->channels;
    if (config->feedback_sensor >= 0)
        actuator->feedback = &core->sensor[config->feedback_sensor];
    actuator->feedback_channel = config->feedback_channel;
    actuator->feedback_kind = config->feedback_kind;
    actuator->measures = config->measures;
    actuator->velocity_channel = config->velocity_channel;
    actuator->effort_channel = config->effort_channel;
    actuator->mode = config->limits[0].mode;
    actuator->accepts = config->accepts;
    actuator->rests_since_ns = INPHASE_ABSENT;
    actuator->watchdog = config->watchdog;
    actuator->guards_itself = config->guarded || virtual_time;
    actuator->off_on_estop = config->off_on_estop;
    actuator->max_hold_ns = config->max_hold_ns;
    actuator->handover_ns = config->handover_ns;
    actuator->coasts = config->coasts;
    actuator->approaches = config->approaches;
    actuator->rest_speed = config->rest_speed > 0 ? config->rest_speed : REST_SPEED;
    actuator->rest_sequence = -1;
    actuator->rest_from_ns = INPHASE_ABSENT;
    follow_begin(actuator);
    park_make(&actuator->park, config->park, config->channels, (double)core->period_ns * 1e-9);
    for (uint32_t c = 0; c < config->channels; c++) {
        atomic_init(&actuator->holds[c], NAN);
        if (inphase_limiter_make(&actuator->limiter[c], &config->limits[c],
                                 (double)core->period_ns * 1e-9) < 0)
            return -EINVAL;
        limiter_place(&actuator->limiter[c], &actuator->motion[c],
                      config->start ? config->start[c] : is_position ? NAN : 0);
    }
    if (config->workspace) {
        actuator->workspace = *config->workspace;
        memcpy(actuator->joint, config->workspace->joint,
               config->workspace->joints * sizeof *actuator->joint);
        actuator->workspace.joint = actuator->joint;
    }
    copy_packets(actuator, config);
    return virtual_time ? plant_make(actuator, config) : 0;
}

static void make_record(struct inphase_core *core)
{
    uint8_t *at = core->record + sizeof(struct inphase_frame) +
                  core->sensors * sizeof(struct inphase_row);

    for (uint32_t i = 0; i < core->actuators; i++) {
        uint32_t values = 2 * core->actuator[i].channels;

        core->act[i] = (struct inphase_act *)at;
        core->act[i]->channels = core->actuator[i].channels;
        at += sizeof(struct inphase_act);
        for (uint32_t c = 0; c < values; c++, at += sizeof(double))
            *(double *)at = NAN;
    }
}

/* do the world, the actuators and the joints of a simulated sensor exist? */
static bool twin_holds(const struct inphase_core *core, const struct sensor *sensor)
{
    const struct inphase_twin *spec = &sensor->twin->spec;

    if ((spec->derived && !core->world.spec.step) || (spec->rendered && !core->world.spec.render))
        return false;
    for (uint32_t c = 0; c < sensor->channels; c++) {
        const struct inphase_twin_channel *channel = &sensor->twin->channel[c];

        if (channel->kind == INPHASE_TWIN_CONSTANT || channel->kind == INPHASE_TWIN_WORLD)
            continue;
        if (channel->kind > INPHASE_TWIN_WORLD || channel->actuator >= core->actuators ||
            channel->joint >= core->actuator[channel->actuator].channels)
            return false;
    }
    return true;
}

static int fill_world(struct world *world, const struct inphase_world *config, int64_t period_ns)
{
    if (!config->step || !config->forward || !config->timestep || config->steps <= 0 ||
        config->steps > period_ns ||
        config->warnings > sizeof world->warned / sizeof *world->warned ||
        (config->warnings && !config->warning))
        return -EINVAL;
    world->spec = *config;
    world->period_ns = period_ns;
    for (uint32_t i = 0; i < config->warnings; i++)
        world->warned[i] =
            *(const int32_t *)((const char *)config->warning + i * config->warning_stride);
    return 0;
}

static int fill_lockstep(struct inphase_core *core, const struct inphase_config *config)
{
    int rc;

    core->policy = config->policy;
    if (!timing_holds(core, &config->trace))
        return -EINVAL;
    core->trace = config->trace;
    core->server.number = core->server.latest = core->server.due = -1;
    core->server.command = calloc(core->setpoints.answer + 1, sizeof(double));
    if (!core->server.command)
        return -ENOMEM;
    rc = distribution_copy(&core->wake_late, &config->wake_late);
    if (rc == 0)
        rc = distribution_copy(&core->inference, &config->inference);
    return rc;
}

static int fill(struct inphase_core *core, const struct inphase_config *config)
{
    int rc = 0;

    core->clock = config->virtual_time ? &virtual_clock : &monotonic_clock;
    core->period_ns = config->period_ns;
    core->read_deadline_ns = config->read_deadline_ns;
    core->act_ns = config->act_ns;
    core->resumed_after_ns = config->resumed_after_ns;
    core->cycle_limit = config->virtual_time ? 0 : config->cycles;
    core->seed = config->seed;
    core->epoch = config->epoch;
    core->devices = config->devices;
    core->sensors = config->sensors;
    core->actuators = config->actuators;
    core->overrun_limit = config->overrun_limit;
    core->priority = config->priority;
    core->cpu = config->cpu;
    core->observe = config->observe;
    core->has_policy = config->has_policy;
    core->acted_cycle = core->stop_cycle = -1;
    core->estop_inputs = config->estop_inputs;
    for (uint32_t i = 0; i < config->estop_inputs; i++) {
        core->estop[i] = config->estop[i];
        core->estop_fd[i] = -1;
    }
    core->acted_ns = core->inferred_ns = core->inference_ns = INPHASE_ABSENT;
    core->answered_cycle = -1;
    for (uint32_t i = 0; i < core->devices; i++) {
        core->device[i].ops = config->virtual_time ? &twin_ops : &fd_ops;
        core->device[i].fd = -1;
        core->device[i].sensor = core->device[i].actuator = -1;
    }
    if (config->world && config->virtual_time)
        rc = fill_world(&core->world, config->world, config->period_ns);
    for (uint32_t i = 0; i < core->sensors && rc == 0; i++)
        rc = make_sensor(core, i, &config->sensor[i], config->virtual_time);
    for (uint32_t i = 0; i < core->actuators && rc == 0; i++)
        rc = make_actuator(core, i, &config->actuator[i], config->virtual_time);
    for (uint32_t i = 0; i < core->sensors && rc == 0 && config->virtual_time; i++)
        if (!twin_holds(core, &core->sensor[i]))
            rc = -EINVAL;
    if (config->pace_sensor) {
        core->pace.sensor = &core->sensor[config->pace_sensor - 1];
        inphase_device_clock_init(&core->pace.clock);
    }
    if (rc == 0)
        rc = setpoints_make(core, &config->policy_timing);
    if (rc == 0 && config->virtual_time)
        rc = fill_lockstep(core, config);
    if (rc == 0)
        sort_sensors(core);
    return rc;
}

static void free_parts(struct inphase_core *core)
{
    setpoints_free(&core->setpoints);
    free(core->server.command);
    for (uint32_t i = 0; i < core->sensors; i++)
        twin_free(&core->sensor[i]);
    for (uint32_t i = 0; i < core->sensors; i++)
        burst_free(&core->sensor[i].burst);
    for (uint32_t i = 0; i < core->actuators; i++)
        plant_free(&core->actuator[i]);
    distribution_free(&core->wake_late);
    distribution_free(&core->inference);
}

int inphase_core_open(inphase_core **out, const struct inphase_config *config,
                      inphase_segment *segment)
{
    inphase_core *core;
    int rc = -EINVAL;

    if (!config_holds(config) || segment->size < inphase_core_size(config))
        return -EINVAL;

    /* page aligned and its own pages, so that it can be locked */
    core = mmap(NULL, page_align(sizeof *core), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                -1, 0);
    if (core == MAP_FAILED)
        return -ENOMEM;
    rc = fill(core, config);
    if (rc < 0)
        goto free_core;
    core->record_size = record_bytes(config);
    core->record = aligned_alloc(PAGE_BYTES, page_align(core->record_size));
    rc = -ENOMEM;
    if (!core->record)
        goto free_core;
    memset(core->record, 0, page_align(core->record_size));
    make_record(core);
    if (config->virtual_time) {
        core->own_mailbox = calloc(1, mailbox_bytes(core->setpoints.answer));
        if (!core->own_mailbox)
            goto free_record;
        core->own_mailbox->values = core->setpoints.answer;
        core->mailbox = core->own_mailbox;
    }

    /* the segment: layout, description, zeroed state; published last */
    core->segment = segment;
    core->layout = (struct inphase_layout *)segment->memory;
    lay_out(config, core->layout);
    core->layout->size = segment->size;
    if (config->description_size)
        memcpy(segment->memory + core->layout->description_offset, config->description,
               config->description_size);
    core->state = (struct state *)(segment->memory + core->layout->state_offset);
    core->statistics = (struct statistics *)(segment->memory + core->layout->statistics_offset);
    put_i64(&core->state->cycle, -1);
    put_i64(&core->state->reason_cycle, -1);
    put_i64(&core->state->pace_drift_ppb, INPHASE_ABSENT);
    atomic_store_explicit(&core->state->rt_cpu, -1, memory_order_relaxed);
    inphase_segment_publish(segment);
    if (config->virtual_time)
        cycle_begin(core);
    *out = core;
    return 0;

free_record:
    free(core->record);
free_core:
    free_parts(core);
    munmap(core, page_align(sizeof *core));
    return rc;
}

void inphase_core_close(inphase_core *core)
{
    if (!core)
        return;
    if (core->started) {
        inphase_core_stop(core, INPHASE_REASON_REQUEST, 0);
        pthread_join(core->thread, NULL);
        relay_end(&core->relay);
        munmap(core->stack, STACK_GUARD + STACK_BYTES);
    }
    guard_close(core);
    free(core->own_mailbox);
    free(core->record);
    free_parts(core);
    munmap(core, page_align(sizeof *core));
}

/* publish a new wish for a device; it replaces the one before, taken or not */
static int want(inphase_core *core, uint32_t index, uint32_t what)
{
    struct device *device;
    uint64_t before;

    if (index >= core->devices)
        return -EINVAL;
    device = &core->device[index];
    before = atomic_load_explicit(&device->wanted, memory_order_relaxed);

    /* one word, and a release: the descriptor is as its opener left it */
    atomic_store_explicit(&device->wanted, ((before >> 32) + 1) << 32 | what, memory_order_release);
    return 0;
}

int inphase_core_attach(inphase_core *core, uint32_t device, int fd)
{
    int sensor;

    if (device >= core->devices || (fd < 0 && core->device[device].ops != &worker_ops))
        return -EINVAL;
    sensor = core->device[device].sensor;
    fd_prepare(fd, sensor >= 0 && core->sensor[sensor].parser.exchange.spec.framing.can);
    return want(core, device, (uint32_t)(fd < 0 ? -1 : fd) + WANTED_FD);
}

int inphase_core_detach(inphase_core *core, uint32_t device)
{
    return want(core, device, WANTED_NONE);
}

/* the cycle thread's answer to the newest wish; -EINPROGRESS: not yet */
static int64_t use_of(inphase_core *core, uint32_t index)
{
    struct device *device;
    uint64_t use, wanted;

    if (index >= core->devices)
        return -EINVAL;
    device = &core->device[index];
    wanted = atomic_load_explicit(&device->wanted, memory_order_relaxed);
    use = atomic_load_explicit(&device->use, memory_order_acquire);
    return use >> 32 == wanted >> 32 ? (int64_t)(uint32_t)use : -EINPROGRESS;
}

int inphase_core_attached(inphase_core *core, uint32_t device)
{
    int64_t use = use_of(core, device);

    return use < 0 ? (int)use : (use & USE_ATTACHED) != 0;
}

int inphase_core_lost(inphase_core *core, uint32_t device)
{
    int64_t use = use_of(core, device);

    /* a wish that is not taken yet cannot have failed */
    if (use == -EINPROGRESS)
        return 0;
    return use < 0 ? (int)use : (int)(use & USE_ERRNO);
}

/* the word of a bell that this process rings; NULL: it is no bell */
static _Atomic uint32_t *bell_word(inphase_segment *bell)
{
    return bell && bell->writer && bell->size >= BELL_BYTES ? (_Atomic uint32_t *)bell->memory
                                                             : NULL;
}

int inphase_core_mailbox(inphase_core *core, inphase_segment **mailbox, inphase_segment **bell)
{
    int rc;

    if (core->started || core->mailbox)
        return -EBUSY;
    rc = inphase_mailbox_make(mailbox, core->setpoints.answer, core->epoch);
    if (rc < 0)
        return rc;
    rc = inphase_bell_make(bell);
    if (rc < 0) {
        inphase_segment_close(*mailbox);
        return rc;
    }
    core->mailbox = (const void *)(*mailbox)->memory;
    core->policy_bell = bell_word(*bell);
    return 0;
}

int inphase_core_worker(inphase_core *core, uint32_t index, inphase_segment *ring, int wake_fd,
                        inphase_segment *bell)
{
    struct device *device;

    if (core->started || core->clock == &virtual_clock)
        return -EBUSY;
    if (index >= core->devices || core->device[index].ops != &worker_ops)
        return -EINVAL;
    device = &core->device[index];
    device->post = post_of(ring, core->layout, (uint32_t)device->sensor);
    if (!device->post)
        return -EPROTO;
    device->fd = wake_fd;
    device->bell = bell_word(bell);
    return 0;
}

void inphase_core_policy_gone(inphase_core *core, uint32_t reason)
{
    put_u32(&core->policy_gone, reason < INPHASE_REASONS ? reason : INPHASE_REASON_DIED);
}

/* ---- the cycle thread -------------------------------------------------------------------- */

static void touch(volatile uint8_t *memory, uint64_t size)
{
    for (uint64_t i = 0; i < size; i += PAGE_BYTES)
        memory[i] = memory[i];
}

/* start the cycle thread on a stack of our own, with a protected page below it */
static int start_cycle(inphase_core *core)
{
    pthread_attr_t attributes;
    int rc;

    core->stack = mmap(NULL, STACK_GUARD + STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_POPULATE, -1, 0);
    if (core->stack == MAP_FAILED)
        return -ENOMEM;
    rc = mprotect(core->stack, STACK_GUARD, PROT_NONE) < 0 ? errno : 0;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, (uint8_t *)core->stack + STACK_GUARD, STACK_BYTES);
    if (rc == 0)
        rc = pthread_create(&core->thread, &attributes, cycle_main, core);
    pthread_attr_destroy(&attributes);
    if (rc)
        munmap(core->stack, STACK_GUARD + STACK_BYTES);
    return -rc;
}

int inphase_core_start(inphase_core *core)
{
    sigset_t all, before;
    int rc;

    if (core->started || core->clock == &virtual_clock)
        return -EBUSY;

    /* touch every page once, while no other thread uses them */
    touch((uint8_t *)core, sizeof *core);
    touch(core->setpoints.memory, core->setpoints.size);
    touch(core->segment->memory, core->segment->size);

    /* signals are for other threads: these threads handle only faults of their own */
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGILL);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = relay_start(&core->relay, core->state);
    if (rc == 0) {
        rc = start_cycle(core);
        if (rc < 0)
            relay_end(&core->relay);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    core->started = rc == 0;
    return rc;
}

int inphase_core_join(inphase_core *core, int64_t timeout_ns)
{
    int64_t until = deadline_after(timeout_ns);
    struct timespec pause = {.tv_nsec = 1000000};

    while (!atomic_load_explicit(&core->ended, memory_order_acquire)) {
        if (!core->started)
            return -EINVAL;
        if (inphase_now() >= until)
            return -ETIMEDOUT;
        nanosleep(&pause, NULL);
    }
    return 0;
}
