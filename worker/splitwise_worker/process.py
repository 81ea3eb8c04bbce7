"""The worker process: builds its parts in order, keeps them until SIGTERM, and drains."""

import asyncio
import logging
import secrets
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Final

import torch

from splitwise_core.kv import KvGeometry
from splitwise_core.logs import count_drops
from splitwise_core.metric import Component
from splitwise_core.metrics.process import LOG_DROPS
from splitwise_core.policy.block_pool import BlockPool
from splitwise_core.policy.draining import Fate
from splitwise_core.policy.duty import Duty
from splitwise_core.policy.roles import ROLES
from splitwise_core.policy.scaling import WorkerLoad
from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_core.status_server import StatusServer
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing import open_tracing
from splitwise_worker import commands, gpu_start, load_meter
from splitwise_worker.admission import Limits
from splitwise_worker.config import WorkerConfig
from splitwise_worker.engine import Engine
from splitwise_worker.engine_metrics import EngineMetrics
from splitwise_worker.estimates import Estimates
from splitwise_worker.handover import Handover
from splitwise_worker.kv.host_pool import HostPool
from splitwise_worker.kv.sidecar_link import SidecarLink
from splitwise_worker.kv.store import DeviceStore, HostStore, KvStore
from splitwise_worker.loaded import Loaded, load
from splitwise_worker.machine import Machine, machine_of
from splitwise_worker.model_work import ModelWork
from splitwise_worker.outbox import Outbox, Updates
from splitwise_worker.probe import Probe
from splitwise_worker.runner import Runner
from splitwise_worker.scheduler import Scheduler
from splitwise_worker.server import WorkerService, serve
from splitwise_worker.sessions import Sessions
from splitwise_worker.spans import EngineSpans
from splitwise_worker.switchover import Switchover

log = logging.getLogger("splitwise.worker")

PREFIX_KEY_BYTES: Final = 32

STOP_S: Final = 5.0
"""How long the end waits for the step that runs then."""

HANG_UP_S: Final = 2.0
"""How long routers have to read a worker's last words."""


def run_worker(config: WorkerConfig, threads: int, environment: Mapping[str, str]) -> int:
    """Serves until SIGTERM. Raises UserError when it cannot start."""
    torch.set_num_threads(threads)
    telemetry = Telemetry(Component.WORKER, role=config.role, pool=config.pool)
    count_drops(telemetry.counter(LOG_DROPS).inc)
    place = {"splitwise.role": config.role, "splitwise.pool": config.pool}
    place |= {"service.instance.id": config.worker_id}
    tracing = open_tracing(Component.WORKER, environment, telemetry, place)
    readiness = _Readiness()
    page = StatusServer(telemetry.registry, readiness.why_not, {"/load": readiness.load_page})
    page.start(*_host_port(config.status))
    try:
        started = time.monotonic()
        loaded = load(config)
        fields = {"seconds": round(time.monotonic() - started, 2), "threads": threads}
        log.info("model loaded", extra={"fields": fields | loaded.fields()})
        spans = EngineSpans(tracing.recorder)
        return asyncio.run(_Process(config, loaded, telemetry, readiness, spans).run())
    finally:
        tracing.close()
        page.stop()


@dataclass(slots=True)
class _Readiness:
    """Why the worker cannot serve now, None when it can, and its load. The engine is asked for
    both once there is one."""

    asked: Callable[[], str | None] = lambda: "the model is loading"
    load: Callable[[], WorkerLoad] | None = None

    def why_not(self) -> str | None:
        return self.asked()

    def load_page(self) -> bytes | None:
        return None if self.load is None else load_meter.page(self.load())


class _Process:
    """The running worker: the engine's thread, the sidecar's thread, and the event loop."""

    def __init__(
        self,
        config: WorkerConfig,
        loaded: Loaded,
        telemetry: Telemetry,
        readiness: _Readiness,
        spans: EngineSpans,
    ) -> None:
        self._config = config
        self._readiness = readiness
        self._sessions = Sessions()
        geometry = loaded.geometry
        self._pool = HostPool(geometry, loaded.num_blocks)
        store: KvStore = HostStore(self._pool)
        graphs = None
        if loaded.device != "cpu":
            store = DeviceStore(self._pool, torch.device("cuda"))
            graphs = gpu_start.prepare(loaded, store, config.max_sequences)
        self._link = SidecarLink(
            config.sidecar_socket, config.worker_id, self._pool, self._hear, self._lost
        )
        blocks = BlockPool(loaded.num_blocks)
        handover = Handover(self._link, geometry.block_tokens, int(config.lease_seconds * 1e3))
        switchover = Switchover(geometry)
        metrics = self._metrics = EngineMetrics(
            telemetry,
            lambda: switchover.min_tokens,
            _estimates(config, loaded, telemetry),
            geometry.block_bytes,
            spans,
        )
        self._engine = Engine(
            scheduler=Scheduler(
                blocks,
                geometry.block_tokens,
                config.max_sequences,
                config.prompt_batch_tokens,
                secrets.token_bytes(PREFIX_KEY_BYTES) if config.prefix_caching else None,
                config.chunk_tokens,
                config.max_tbt_seconds,
                Duty(ROLES[config.role], config.repurpose_seconds),
            ),
            runner=Runner(loaded.decoder, store, geometry.block_tokens, loaded.device, graphs),
            store=store,
            handover=handover,
            probe=Probe(blocks, handover, config.sidecar_address),
            outbox=Outbox(self._deliver),
            metrics=metrics,
            switchover=switchover,
            limits=Limits(loaded.max_model_len, loaded.decoder.config.vocab_size),
            eos_token_ids=frozenset(loaded.decoder.config.eos_token_ids),
        )
        self._info = info = _info(config, geometry, loaded)
        self._load = lambda: metrics.load.load(
            info.incarnation, info.block_tokens, info.num_blocks, info.max_sequences
        )

    async def run(self) -> int:
        """0 after a drain; 1 when the engine's thread has died."""
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        self._failed = False
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._over.set)
        service = WorkerService(self._engine, self._sessions, self._info)
        server, _ = await serve(service, self._config.listen)
        self._readiness.asked = self._engine.not_ready
        self._readiness.load = self._load
        thread = Thread(target=self._run_engine, name="engine", daemon=True)
        thread.start()
        self._link.start()
        await self._over.wait()
        if self._failed:
            await server.stop(grace=0)
            return 1
        remaining = await self._drain(service)
        self._engine.submit(commands.Stop())
        await asyncio.to_thread(thread.join, STOP_S)
        self._loop.call_soon(self._sessions.close)  # behind what the engine's last steps delivered
        await server.stop(grace=HANG_UP_S)
        self._link.stop()
        log.info("stopped", extra={"fields": {"sequences_cut": remaining}})
        return 0

    async def _drain(self, service: WorkerService) -> int:
        """How many sequences are cut, because even to give them back came to nothing."""
        began_s = time.monotonic()
        remaining = await service.drain(self._config.drain_seconds)
        fates = {fate.value: self._metrics.fates[fate] for fate in Fate}
        seconds = round(time.monotonic() - began_s, 3)
        log.info("drained", extra={"fields": {"seconds": seconds, **fates}})
        return remaining

    def _run_engine(self) -> None:
        try:
            self._engine.run()
        except BaseException:
            log.exception("a bug ended the engine")
            self._failed = True
            self._loop.call_soon_threadsafe(self._over.set)

    def _deliver(self, updates: Updates, load: worker_pb2.Load) -> None:
        with suppress(RuntimeError):  # the loop has closed: a last step outlived the process's stop
            self._loop.call_soon_threadsafe(self._sessions.deliver, updates, load)

    def _hear(self, message: kv_pb2.FromSidecarToWorker) -> None:
        if message.WhichOneof("kind") != "link":
            self._engine.submit(commands.FromSidecar(message))
            return
        with suppress(RuntimeError):  # as above
            self._loop.call_soon_threadsafe(self._sessions.deliver_link, message.link)

    def _lost(self) -> None:
        self._engine.submit(commands.SidecarLost())


def _host_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


_WEIGHT_BYTES: Final = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}


def _estimates(config: WorkerConfig, loaded: Loaded, telemetry: Telemetry) -> Estimates:
    work = ModelWork.of(
        loaded.decoder.config, _WEIGHT_BYTES[loaded.weights], loaded.geometry.sequence_bytes(1)
    )
    asked = Machine(
        config.dollars_per_hour,
        config.power,
        config.peak_flops_per_second,
        config.peak_bytes_per_second,
    )
    return Estimates(telemetry, work, machine_of(asked, loaded.device, loaded.weights))


def _info(config: WorkerConfig, geometry: KvGeometry, loaded: Loaded) -> worker_pb2.WorkerInfo:
    return worker_pb2.WorkerInfo(
        worker_id=config.worker_id,
        pool=config.pool,
        role=config.role,
        revision=config.revision,
        model=config.model_name,
        sidecar=config.sidecar_address,
        geometry_fingerprint=geometry.fingerprint(),
        max_model_len=loaded.max_model_len,
        block_tokens=geometry.block_tokens,
        num_blocks=loaded.num_blocks,
        max_sequences=config.max_sequences,
        incarnation=secrets.randbits(63),
        tokenizer_fingerprint=loaded.tokenizer,
        kv_token_bytes=geometry.sequence_bytes(1),
        num_layers=geometry.num_layers,
    )
