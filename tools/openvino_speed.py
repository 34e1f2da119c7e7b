"""Speed of OpenVINO GenAI on a model file: reads "PROMPT GEN" lines, answers each with a line of JSON (called by
bench_compare.py, in a virtual environment that has openvino-genai)."""
import argparse
import json
import random
import sys

import numpy
import openvino
import openvino_genai


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--vocabulary", type=int, required=True)
    args = parser.parse_args()
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.enable_prefix_caching = False  # Otherwise prompts that it has seen look ten times faster.
    # One unit for the whole prompt, and room for it.
    scheduler.max_num_batched_tokens = 8192
    scheduler.cache_size = 2
    pipe = openvino_genai.LLMPipeline(args.model, "CPU", scheduler_config=scheduler,
                                      INFERENCE_NUM_THREADS=args.threads)
    print(json.dumps({"version": openvino_genai.__version__}), flush=True)
    drawn = random.Random(1)
    for line in sys.stdin:
        prompt, gen = map(int, line.split())
        ids = numpy.array([[drawn.randrange(args.vocabulary) for _ in range(prompt)]], dtype=numpy.int64)
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = gen + 1
        config.ignore_eos = True
        config.do_sample = False
        config.apply_chat_template = False
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(numpy.ones_like(ids)))
        metrics = pipe.generate(inputs, config).perf_metrics
        print(json.dumps({"prefill": prompt / (metrics.get_ttft().mean / 1000),
                          "decode": 1000 / metrics.get_tpot().mean if gen > 0 else 0}), flush=True)


if __name__ == "__main__":
    main()
