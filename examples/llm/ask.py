"""A small application: it asks a model again and again, and says of each answer what its user saw.

`python ask.py SECONDS` with the openai SDK as it is installed: two retries, a time-out of 2 s. Where the service is, OPENAI_BASE_URL tells.
"""

import sys
import time

import openai

client = openai.OpenAI(api_key="none", timeout=2.0, max_retries=2)


def answer(number):
    # Users ask different things: the same question again is a retry.
    messages = [{"role": "user", "content": f"what is {number} times {number}?"}]
    stream = client.chat.completions.create(model="small", messages=messages, stream=True, max_tokens=12)
    reason = None
    for chunk in stream:
        if chunk.choices:
            reason = chunk.choices[0].finish_reason or reason
    return "whole" if reason else "cut off"


until = time.monotonic() + float(sys.argv[1])
number = 0
while time.monotonic() < until:
    number += 1
    try:
        seen = answer(number)
    except openai.OpenAIError as error:
        seen = type(error).__name__
    print("answer", seen, flush=True)
    time.sleep(0.05)
