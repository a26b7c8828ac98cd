#!/usr/bin/env python3
"""A plain RPC worker for rpc_queue, called by an Antiphon caller that it knows nothing of.

    python3 rpc_worker.py amqp://localhost/%2f
    cargo run -p antiphon-rabbitmq --example rpc_caller -- amqp://localhost/%2f

What such programs usually get wrong, put right here:

 1. The answer's correlation id is one's own, or an integer. It is the request's, as it came.
 2. The answer goes to a queue that the worker believes in. It goes where `reply_to` says, by the default exchange.
 3. The request is acknowledged before the answer is published, so a crash in between loses both. Afterwards, and
    confirmed.
 4. The queue is declared weaker than the caller needs: then durable calls are refused. This one is a quorum queue.
 5. Arguments that make no sense stop the worker. They are answered with an error.
"""

import json
import sys

import pika


def fib(num):
    before, value = 0, 1
    for _ in range(num):
        before, value = value, before + value
    return before


def answer(body):
    try:
        return fib(json.loads(body)["num"])
    except (KeyError, TypeError, ValueError) as error:
        return {"error": {"code": "INVALID_ARGUMENT", "message": repr(error)}}


def main():
    connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
    channel = connection.channel()
    channel.confirm_delivery()
    try:
        # Whoever calls may have declared it already; then it is as the caller needs it.
        connection.channel().queue_declare("rpc_queue", passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        durable = "--classic" not in sys.argv
        arguments = {"x-queue-type": "quorum"} if durable else {}
        channel.queue_declare("rpc_queue", durable=durable, arguments=arguments)

    def on_request(channel, method, properties, body):
        if properties.reply_to:
            replied = pika.BasicProperties(
                correlation_id=properties.correlation_id,
                content_type="application/json",
                delivery_mode=properties.delivery_mode,
            )
            try:
                channel.basic_publish("", properties.reply_to, json.dumps(answer(body)), replied, mandatory=True)
            except pika.exceptions.UnroutableError:
                pass  # Who asked has gone.
        channel.basic_ack(method.delivery_tag)

    channel.basic_qos(prefetch_count=1)
    channel.basic_consume("rpc_queue", on_request)
    print("serving rpc_queue", flush=True)
    channel.start_consuming()


if __name__ == "__main__":
    main()
