#!/usr/bin/env python3
"""The introductory program of RPC over RabbitMQ, calling an Antiphon worker that it knows nothing of.

    cargo run -p antiphon-rabbitmq --example rpc_worker -- 'amqp://localhost/%2f?reply_queue=response_queue'
    python3 rpc_client.py amqp://localhost/%2f

It publishes {"num": 30} to rpc_queue and is answered in response_queue: by `reply_to`, or without it (--no-reply-to)
because the worker's URL says ?reply_queue=response_queue.

What such programs usually get wrong, put right here:

 1. The correlation id is an integer. AMQP's is a string: an integer fails in the client, or comes back as another value.
 2. The request is published to the default exchange after "binding" a queue to it. Nothing can be bound there: every
    queue is reached by its name as routing key.
 3. The reply is read (basic_get) right after the request is published, before it exists. A consumer waits for it.
 4. Nobody consumes the reply queue, so replies pile up. It is consumed before the request is published.
 5. rpc_queue is declared with arguments of one's own, which fails where it exists with others. The worker declares it;
    a client only looks whether it is there.
 6. The request is published and forgotten. With confirmations and `mandatory`, what reaches no queue is an error.
 7. Any message in the reply queue is taken for the answer. Only the one with one's own correlation id is.
 8. A failure is printed as if it were the value. It is {"error": {"code", "message"}}.
"""

import argparse
import json
import time
import uuid

import pika


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--num", type=int, default=30)
    parser.add_argument("--no-reply-to", action="store_true")
    arguments = parser.parse_args()

    connection = pika.BlockingConnection(pika.URLParameters(arguments.url))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("rpc_queue", passive=True)
    channel.queue_declare("response_queue", durable=True)

    waiting = set()

    def on_response(correlation_id, body):
        if isinstance(body, dict) and "error" in body:
            print(f"{correlation_id}: {body['error']['code']}: {body['error']['message']}")
        else:
            print(f"{correlation_id}: fib({arguments.num}) = {body}")

    def deliver(channel, method, properties, body):
        if properties.correlation_id in waiting:
            on_response(properties.correlation_id, json.loads(body))
            waiting.remove(properties.correlation_id)
            channel.basic_ack(method.delivery_tag)
        else:
            # Somebody else's, who shares the queue.
            channel.basic_nack(method.delivery_tag, requeue=True)
            time.sleep(0.1)

    channel.basic_consume("response_queue", deliver)
    correlation_id = str(uuid.uuid4())
    waiting.add(correlation_id)
    properties = pika.BasicProperties(
        correlation_id=correlation_id,
        reply_to=None if arguments.no_reply_to else "response_queue",
        content_type="application/json",
        delivery_mode=pika.DeliveryMode.Persistent,
    )
    body = json.dumps({"num": arguments.num})
    channel.basic_publish("", "rpc_queue", body, properties, mandatory=True)

    deadline = time.monotonic() + 30
    while waiting:
        if time.monotonic() > deadline:
            raise SystemExit("no answer within 30 s")
        connection.process_data_events(time_limit=1)
    connection.close()


if __name__ == "__main__":
    main()
