# Each target is one call of the freshet command; `node local/install.js` installs what is missing and is instant after that.
# Node 24 comes with the npm packages, hence the PATH.
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
FRESHET := node cli/freshet.ts

.DEFAULT_GOAL := help
.PHONY: help install up down status health inspect logs demo deploy generate stream seed train plan score serve test-api bench benchmark bench-feast test simulate test-kafka test-api-contract test-feast test-python test-registry test-localstack test-localstack-docker localstack test-browser chaos check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## npm packages and Python tools, exactly as locked
	@node local/install.js

up: install ## start everything and deploy
	@$(FRESHET) up

down: install ## end every process, keep the state
	@$(FRESHET) down

status: install ## what runs, where, and how to connect
	@$(FRESHET) status

health: install ## check each part
	@$(FRESHET) health

inspect: install ## watch events flow
	@$(FRESHET) inspect

logs: install ## logs of functions and processes
	@$(FRESHET) logs

demo: install ## the whole thing on this machine
	@$(FRESHET) demo

deploy: install ## deploy again after a change
	@$(FRESHET) deploy

generate: install ## simulated events into the running system
	@$(FRESHET) generate

stream: generate ## the same

seed: generate ## the same

train: install ## train a model of service fraud on what the archive holds, and register it
	@$(FRESHET) train --service fraud

plan: install ## check the definitions, show what a change does
	@$(FRESHET) plan

score: install ## score one request
	@$(FRESHET) score

test-api: score ## the same

serve: install ## the API as a plain HTTP server
	@$(FRESHET) serve

bench: install ## measure, beside a baseline
	@$(FRESHET) bench

benchmark: bench ## the same

bench-feast: install ## measure reads, pushes and memory beside Feast's own server (installs Feast, once)
	@$(FRESHET) bench --only feast

test: ## every test
	@node local/install.js --tests
	@node test/run.ts

test-localstack: install ## the app on LocalStack, without Docker (installs it, once: 560 MB)
	@node test/local/localstack/run.ts process

test-localstack-docker: install ## the same on LocalStack in containers, where there is an engine
	@node test/local/localstack/run.ts containers

localstack: install ## LocalStack and Valkey by Docker compose, deployed to by cdklocal, and a smoke test
	@node local/localstack/docker.ts

simulate: install ## faults without end on the path of events, until a run fails: ARGS="--minutes 60"
	@npm run --silent simulate -- $(ARGS)

test-registry: install ## contracts and events through a real schema registry (fetches Apicurio, once; Java 17)
	@node test/run.ts registry

test-kafka: install ## with Kafka as the broker, killed and restarted under load (needs Java 17, and Maven once)
	@node test/run.ts kafka

test-feast: install ## Feast's own client against a Freshet of its own (installs Feast, once)
	@node test/feast/run.ts

test-api-contract: install ## schemathesis on the running API, or one of its own (installs it, once): ARGS=--long
	@node test/outside/run.ts schemathesis $(ARGS)

test-python: install ## the Python client with pandas, on the running API or one of its own (installs them, once)
	@node test/outside/run.ts python

test-browser: install ## the pages in a real browser: Chromium in PATH, or FRESHET_BROWSER; skipped where there is none
	@vitest run --project browser

chaos: install ## break a runtime of its own under load for five minutes, then compare every feature
	@$(FRESHET) chaos

check: install ## format, lint, types, unit tests
	@npm run --silent check

clean: ## end every process, remove all state
	@if [ -d .freshet ] && [ -d node_modules ]; then $(FRESHET) clean; fi
