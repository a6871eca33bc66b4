/** CPU and memory, measured from outside the code that is measured. */
import { setTimeout } from "node:timers/promises";
import { GCProfiler } from "node:v8";
import type { Redis } from "iovalkey";

export interface StoreUsage {
  /** CPU of the whole server process, background threads included, in µs. */
  readonly cpuUs: number;
  /** CPU of the thread that serves commands, in µs: what bounds events/s. */
  readonly mainThreadUs: number;
}

export async function storeUsage(node: Redis): Promise<StoreUsage> {
  const info = await node.info("cpu");
  const read = (name: string): number => {
    const found = new RegExp(`^${name}:([0-9.]+)`, "m").exec(info);
    if (found === null) throw new Error(`INFO has no ${name}`);
    return Number(found[1]);
  };
  return {
    cpuUs: (read("used_cpu_user") + read("used_cpu_sys")) * 1e6,
    mainThreadUs: (read("used_cpu_user_main_thread") + read("used_cpu_sys_main_thread")) * 1e6,
  };
}

/** Bytes that a store holds, without what connections and scripts hold for a moment. */
export async function settledMemory(node: Redis): Promise<number> {
  await node.call("SCRIPT", "FLUSH", "SYNC");
  await setTimeout(1_500);
  const info = await node.info("memory");
  const clients = Number(/^mem_clients_normal:(\d+)/m.exec(info)?.[1] ?? 0);
  return Number(/^used_memory:(\d+)/m.exec(info)?.[1]) - clients;
}

/** CPU of this process, garbage collection and other threads included, in µs. */
export function ownCpuUs(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/**
 * Bytes allocated on this process's JavaScript heap, counted from collection to collection: what was in use before one, less what
 * was left by the one before. Contents of large buffers lie elsewhere and are not among them.
 */
export class AllocationMeter {
  private profiler = new GCProfiler();
  private total = 0;
  private left = process.memoryUsage().heapUsed;

  constructor() {
    this.profiler.start();
  }

  /** Since the meter was made. */
  read(): number {
    const collections = this.profiler.stop().statistics;
    this.profiler = new GCProfiler();
    this.profiler.start();
    for (const { beforeGC, afterGC } of collections) {
      this.total += beforeGC.heapStatistics.usedHeapSize - this.left;
      this.left = afterGC.heapStatistics.usedHeapSize;
    }
    const used = process.memoryUsage().heapUsed;
    this.total += used - this.left;
    this.left = used;
    return this.total;
  }
}
