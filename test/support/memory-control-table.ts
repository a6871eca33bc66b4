/** The control table in memory, with its conditions; `failNext` makes the next write fail, as a function that dies there would. */
import type {
  AbandonedRounds,
  ControlTable,
  RepeatRecord,
  RestoreRecord,
  StoreRecord,
  StreamLease,
  StreamRecord,
} from "../../adapters/control-table/control-table.ts";
import { canonicalJson, type Lock } from "../../core/compile/compile.ts";
import { InfrastructureError } from "../../core/errors.ts";

type Table = { [Method in keyof ControlTable]: ControlTable[Method] };

export class MemoryControlTable implements Table {
  store: StoreRecord | null = null;
  readonly streams = new Map<string, StreamRecord>();
  readonly leases = new Map<string, StreamLease>();
  lock: Lock | null = null;
  restore: RestoreRecord | null = null;
  readonly abandoned: AbandonedRounds[] = [];
  repeat: RepeatRecord | null = null;
  failNext: string | null = null;

  /** As the port wants it, whose own class has private parts. */
  get port(): ControlTable {
    return this as unknown as ControlTable;
  }

  private mayFail(what: string): void {
    if (this.failNext !== what) return;
    this.failNext = null;
    throw new InfrastructureError("control_table_unavailable", `${what} was cut off`);
  }

  async getLock() {
    return this.lock;
  }
  async putLock(lock: Lock, before: Lock | null) {
    this.mayFail("putLock");
    if (canonicalJson(this.lock) === canonicalJson(before)) this.lock = lock;
  }
  async getStore() {
    return this.store;
  }
  async beginStore(epoch: number) {
    this.mayFail("beginStore");
    this.store ??= { epoch, state: "creating" };
    return this.store;
  }
  async finishStore(epoch: number) {
    this.mayFail("finishStore");
    if (this.store?.epoch !== epoch) throw new InfrastructureError("control_epoch_conflict", "another epoch stands");
    this.store = { epoch, state: "ready" };
  }
  async nextEpoch(from: number) {
    this.mayFail("nextEpoch");
    if (this.store?.epoch !== from) throw new InfrastructureError("control_epoch_conflict", "another epoch stands");
    this.store = { epoch: from + 1, state: "ready" };
  }
  async getStream(name: string) {
    return this.streams.get(name) ?? null;
  }
  async putStream(name: string, record: StreamRecord) {
    this.mayFail("putStream");
    if (!this.streams.has(name)) this.streams.set(name, record);
    return this.streams.get(name)!;
  }
  async getRestore() {
    return this.restore;
  }
  async putRestore(record: RestoreRecord) {
    this.mayFail("putRestore");
    this.restore = record;
  }
  async getAbandoned() {
    return this.abandoned;
  }
  async abandonRounds(rounds: AbandonedRounds) {
    this.mayFail("abandonRounds");
    this.abandoned.push(rounds);
  }
  async getRepeat() {
    return this.repeat === null || this.repeat.done ? null : this.repeat;
  }
  async putRepeat(record: RepeatRecord, standing: RepeatRecord | null) {
    this.mayFail("putRepeat");
    if (canonicalJson(await this.getRepeat()) !== canonicalJson(standing)) return false;
    this.repeat = record;
    return true;
  }
  async getLease(stream: string) {
    return this.leases.get(stream) ?? null;
  }
  async takeLease(stream: string, lease: StreamLease, nowMs: number) {
    const standing = this.leases.get(stream);
    if (standing && standing.holder !== lease.holder && standing.expiresMs > nowMs) return false;
    this.leases.set(stream, lease);
    return true;
  }
  async releaseLease(stream: string, holder: string) {
    if (this.leases.get(stream)?.holder === holder) this.leases.set(stream, { holder, expiresMs: 0 });
  }
}
