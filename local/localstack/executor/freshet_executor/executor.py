"""LocalStack's execution environments as Node.js processes of this machine: no container, hence no engine for one.

What containers would add is not there: limits of memory and files, layers, extensions, other languages than Node.js, and
the exact version of Node.js that a function asks for.
"""

import json
import time

from localstack import config
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.runtime_executor import LambdaRuntimeException, RuntimeExecutor

from .process import Ended, NodeProcess


class NodeProcessExecutor(RuntimeExecutor):
    def __init__(self, id: str, function_version: FunctionVersion) -> None:
        super().__init__(id=id, function_version=function_version)
        self._variables: dict[str, str] = {}
        self._process: NodeProcess | None = None

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        runtime = function_version.config.runtime or "of an image"
        if not runtime.startswith("nodejs"):
            raise LambdaRuntimeException(f"runtime {runtime} cannot be run here; only Node.js functions can")
        function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        pass

    def start(self, env_vars: dict[str, str]) -> None:
        self._variables = {name: str(value) for name, value in env_vars.items()}
        self._spawn()

    def stop(self) -> None:
        if self._process is not None:
            self._process.stop()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        invocation = payload["invoke-id"]
        seconds = self.function_version.config.timeout
        try:
            # Of the last invocation nothing may be left but a whole process.
            if self._process is None or not self._process.is_running:
                self._spawn()
            request = {
                "id": invocation,
                "arn": payload["invoked-function-arn"],
                "deadlineMs": int((time.time() + seconds) * 1000),
                "event": payload.get("payload") or "{}",
            }
            answer = self._process.ask(request, seconds)
        except TimeoutError:
            self._process.kill()
            return self._failed(invocation, "Sandbox.Timedout", f"Task timed out after {seconds:.2f} seconds")
        except Ended as ended:
            return self._failed(invocation, "Runtime.ExitError", f"Runtime exited with error: {ended}")
        return InvocationResult(
            request_id=invocation,
            payload=answer["payload"].encode(),
            is_error=not answer["ok"],
            logs=self._process.take_log(),
        )

    def get_address(self) -> str:
        return "127.0.0.1"

    def get_endpoint_from_executor(self) -> str:
        return "127.0.0.1"

    def get_runtime_endpoint(self) -> str:
        # Asked for, and used by nobody: invocations go over the socket pair.
        return f"http://127.0.0.1:{config.GATEWAY_LISTEN[0].port}/_localstack_lambda/{self.id}"

    def get_logs(self) -> str:
        return "" if self._process is None else self._process.take_log()

    def _spawn(self) -> None:
        folder = str(self.function_version.config.code.get_unzipped_code_location())
        try:
            self._process = NodeProcess(folder, self._variables)
        except (Ended, TimeoutError) as cause:
            raise LambdaRuntimeException(f"no Node.js process came up in {folder}: {cause}") from cause

    def _failed(self, invocation: str, kind: str, why: str) -> InvocationResult:
        message = f"RequestId: {invocation} Error: {why}"
        body = json.dumps({"errorType": kind, "errorMessage": message})
        logs = f"{self._process.take_log()}{message}\n"
        return InvocationResult(request_id=invocation, payload=body.encode(), is_error=True, logs=logs)
