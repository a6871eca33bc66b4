import { formatDuration } from "../../core/duration.ts";
import { FreshetError } from "../../core/errors.ts";
import { FUTURE_LIMIT_MS } from "../../core/event.ts";

/**
 * Refuses a range of simulated time that the stream could not take in: what lies ahead would be quarantined, what lies
 * below the seal would be late, and neither would reach a feature.
 * @param sealMs event times below it are late
 * @throws FreshetError `times_invalid`
 */
export function checkTimes(range: { fromMs: number; toMs: number }, nowMs: number, sealMs: number): void {
  const repair = "use --sink file --out FILE for simulated history, or --anyway to send it all the same";
  const ahead = range.toMs - nowMs;
  if (ahead > FUTURE_LIMIT_MS) {
    throw new FreshetError(
      "times_invalid",
      `--to lies ${rounded(ahead)} ahead: events more than ${formatDuration(FUTURE_LIMIT_MS)} ahead of their arrival are quarantined`,
      { field: "--to", repair },
    );
  }
  const late = (Math.min(range.toMs, sealMs) - range.fromMs) / (range.toMs - range.fromMs);
  if (late <= 0) return;
  const share = late >= 1 ? "all" : `${Math.max(1, Math.round(late * 100))} %`;
  throw new FreshetError(
    "times_invalid",
    `${share} of the range lies below the seal, ${rounded(nowMs - sealMs)} ago: such events are late, and count in no feature`,
    { field: "--from", repair },
  );
}

/** In minutes, hours or days, whichever says it in few digits. */
function rounded(ms: number): string {
  const unit = [86_400_000, 3_600_000, 60_000].find((each) => ms >= 2 * each) ?? 60_000;
  return formatDuration(Math.max(1, Math.round(ms / unit)) * unit);
}
