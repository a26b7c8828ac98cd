#!/usr/bin/env python3
"""Reference values for the formulas of antiphon-queueing, made by other means than the crate's own.

  reference.py            writes values.json beside this file (half a minute)
  reference.py --check    makes all values again and compares them with values.json
  reference.py --package  compares values.json with pyqueueing, a package from PyPI, in a virtual environment below
                          the directory given as second argument (network needed)

Where the answer is a rational number it is summed over the states of the system in exact fractions, or in 80 digits
where the fractions get long. Systems without a formula (M/D/c, M/E2/c, M/H2/c, limited batches) are solved as Markov
chains, state by state. Priorities, and batches without a bound, are the formulas of the literature once more, in exact
numbers: that they are the right ones is shown by simulation in the tests. Needs nothing but Python's standard library.
"""
import json
import math
import subprocess
import sys
import venv
from decimal import Decimal, getcontext
from fractions import Fraction
from pathlib import Path

getcontext().prec = 80
VALUES = Path(__file__).with_name("values.json")


def erlang():
    """Erlang B and C by their defining sums, and the quantities of M/M/c that follow from the state probabilities."""
    rows = []
    for servers, load in [(1, "0.5"), (2, "1.3"), (4, "0.4"), (4, "2.4"), (4, "3.2"), (4, "3.96"), (10, "9"),
                          (50, "45"), (100, "84.0642"), (200, "199"), (1000, "950"), (5000, "4990"), (5000, "2000")]:
        a, c = Decimal(load), servers
        terms, term = [], Decimal(1)
        for n in range(c + 1):
            terms.append(term)
            term = term * a / (n + 1)
        loss = terms[c] / sum(terms)
        last = terms[c] * c / (c - a)
        p_wait = last / (sum(terms[:c]) + last)
        service = Decimal("0.01")
        arrival = a / service
        wait = p_wait * service / (c - a)
        tails = {}
        for t in ["0.005", "0.02", "0.1"]:
            mu, drain = 1 / service, (c - a) / service
            t = Decimal(t)
            if mu == drain:
                summed = (1 + mu * t) * (-mu * t).exp()
            else:
                summed = (drain * (-mu * t).exp() - mu * (-drain * t).exp()) / (drain - mu)
            tails[str(t)] = float((1 - p_wait) * (-mu * t).exp() + p_wait * summed)
        rows.append({"servers": c, "load": float(a), "service_s": float(service), "arrival_per_s": float(arrival),
                     "erlang_b": float(loss), "erlang_c": float(p_wait), "mean_wait_s": float(wait),
                     "mean_queue_length": float(wait * arrival), "response_tail": tails})
    return rows


def bounded():
    """M/M/c/K by its state probabilities."""
    rows = []
    for servers, room, arrival in [(1, 1, 60), (1, 5, 90), (2, 10, 250), (4, 4, 320), (4, 20, 400), (8, 200, 790),
                                   (3, 50, 900)]:
        service = Fraction(1, 100)
        a = arrival * service
        weights, weight = [], Fraction(1)
        for n in range(room + 1):
            weights.append(weight)
            weight = weight * a / min(n + 1, servers)
        total = sum(weights)
        refused = weights[room] / total
        queue = sum((n - servers) * w for n, w in enumerate(weights) if n > servers) / total
        waits = sum(weights[servers:room]) / total / (1 - refused)
        throughput = arrival * (1 - refused)
        rows.append({"servers": servers, "room": room, "arrival_per_s": arrival, "service_s": float(service),
                     "probability_of_refusal": float(refused), "probability_of_waiting": float(waits),
                     "throughput_per_s": float(throughput), "mean_queue_length": float(queue),
                     "mean_wait_s": float(queue / throughput)})
    return rows


def closed():
    """A finite population by its state probabilities."""
    rows = []
    for callers, servers, think in [(1, 1, "0.05"), (10, 1, "0.2"), (10, 3, "0.02"), (100, 8, "0.1"),
                                    (500, 20, "0.5")]:
        service, think = Fraction(1, 100), Fraction(think)
        weights, weight = [], Fraction(1)
        for n in range(callers + 1):
            weights.append(weight)
            weight = weight * (callers - n) * service / think / min(n + 1, servers)
        total = sum(weights)
        busy = sum(min(n, servers) * w for n, w in enumerate(weights)) / total
        queue = sum(max(n - servers, 0) * w for n, w in enumerate(weights)) / total
        rows.append({"callers": callers, "servers": servers, "think_s": float(think), "service_s": float(service),
                     "throughput_per_s": float(busy / service), "mean_queue_length": float(queue),
                     "mean_response_s": float(service + queue * service / busy)})
    return rows


def priorities():
    """Mean waits by A. Cobham's formula, in fractions; the conservation law is checked beside it."""
    rows = []
    for classes in [[(20, 10, 1), (30, 10, 1)], [(5, 20, 0), (10, 50, 2), (2, 30, 1)], [(200, 1, 1), (7, 100, 1)]]:
        classes = [(Fraction(a), Fraction(s, 1000), Fraction(cv)) for a, s, cv in classes]
        residual = sum(a * s * s * (1 + cv * cv) for a, s, cv in classes) / 2
        above, waits = Fraction(0), []
        for a, s, _ in classes:
            below = above + a * s
            waits.append(residual / ((1 - above) * (1 - below)))
            above = below
        conserved = sum(a * s * w for (a, s, _), w in zip(classes, waits))
        assert conserved == above * residual / (1 - above)
        rows.append({"classes": [[float(x) for x in one] for one in classes],
                     "mean_waits_s": [float(wait) for wait in waits]})
    return rows


def solve(matrix, right):
    """Gaussian elimination with pivoting."""
    size = len(right)
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(matrix[row][column]))
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        right[column], right[pivot] = right[pivot], right[column]
        head = matrix[column]
        for row in range(column + 1, size):
            factor = matrix[row][column] / head[column]
            if factor:
                line = matrix[row]
                for place in range(column, size):
                    line[place] -= factor * head[place]
                right[row] -= factor * right[column]
    for row in range(size - 1, -1, -1):
        known = sum(matrix[row][place] * right[place] for place in range(row + 1, size))
        right[row] = (right[row] - known) / matrix[row][row]
    return right


def stationary(chain):
    """The distribution that a chain's transitions leave as it is."""
    size = len(chain)
    matrix = [[chain[to][of] - (1.0 if to == of else 0.0) for to in range(size)] for of in range(size)]
    matrix[-1] = [1.0] * size
    return solve(matrix, [0.0] * (size - 1) + [1.0])


def poisson(mean, size):
    return [math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(size)]


def constant(servers, utilisation):
    """M/D/c: how many are there now decides how many are there one service time later (C. D. Crommelin, 1932)."""
    load = servers * utilisation
    size = servers + int(22 / (1 - utilisation)) + 30
    arrivals = poisson(load, size)
    chain = [[0.0] * size for _ in range(size)]
    for now in range(size):
        left = max(now - servers, 0)
        for come, share in enumerate(arrivals):
            chain[now][min(left + come, size - 1)] += share
    shares = stationary(chain)
    return sum((n - servers) * share for n, share in enumerate(shares) if n > servers) / load


def phases(servers, utilisation, square, start, exits, onward):
    """M/PH/c with two phases, level by level: a call starts in phase 1 with probability `start`, leaves phase i at rate
    `exits[i]` and goes on from 1 to 2 at rate `onward`. The mean service time is 1."""
    load = servers * utilisation
    # Cut off where the tail of the queue is below 1e-12.
    levels = servers + int(16 * (1 + square) / (1 - utilisation))

    def busy(n):
        return min(n, servers)

    def down(n):
        block = [[0.0] * (busy(n - 1) + 1) for _ in range(busy(n) + 1)]
        for k in range(busy(n) + 1):
            for rate, rest in [(k * exits[0], k - 1), ((busy(n) - k) * exits[1], k)]:
                if rate == 0.0:
                    continue
                if n <= servers:
                    block[k][rest] += rate
                else:
                    block[k][rest + 1] += rate * start
                    if start < 1.0:
                        block[k][rest] += rate * (1 - start)
        return block

    def up(n):
        block = [[0.0] * (busy(n + 1) + 1) for _ in range(busy(n) + 1)]
        for k in range(busy(n) + 1):
            if n < servers:
                block[k][k + 1] += load * start
                block[k][k] += load * (1 - start)
            else:
                block[k][k] += load
        return block

    def local(n):
        block = [[0.0] * (busy(n) + 1) for _ in range(busy(n) + 1)]
        for k in range(busy(n) + 1):
            rate = load if n < levels else 0.0
            rate += k * exits[0] + (busy(n) - k) * exits[1] + k * onward
            block[k][k] -= rate
            if k > 0:
                block[k][k - 1] += k * onward
        return block

    def product(a, b):
        return [[sum(x * b[i][j] for i, x in enumerate(row) if x) for j in range(len(b[0]))] for row in a]

    ratios = {}
    ratio = None
    for n in range(levels, 0, -1):
        block = local(n)
        if ratio is not None:
            back = product(ratio, down(n + 1))
            block = [[x + y for x, y in zip(one, other)] for one, other in zip(block, back)]
        transposed = [[-block[i][j] for i in range(len(block))] for j in range(len(block))]
        ratio = [solve([row[:] for row in transposed], row[:]) for row in up(n - 1)]
        ratios[n] = ratio
    shares = [1.0]
    total, queue = 1.0, 0.0
    for n in range(1, levels + 1):
        shares = [sum(share * ratios[n][i][j] for i, share in enumerate(shares)) for j in range(busy(n) + 1)]
        total += sum(shares)
        queue += max(n - servers, 0) * sum(shares)
    return queue / total / load


def general():
    """The mean wait in service times of M/D/c, M/E2/c and M/H2/c."""
    rows = []
    for servers in [1, 2, 4, 8]:
        for utilisation in [0.3, 0.5, 0.7, 0.8, 0.9]:
            def add(square, wait):
                rows.append({"servers": servers, "utilisation": utilisation, "service_cv_squared": square,
                             "mean_wait_in_services": wait})
            add(0.0, constant(servers, utilisation))
            add(0.5, phases(servers, utilisation, 0.5, 1.0, (0.0, 2.0), 2.0))
            # One server has a formula, and the chain's tail would be cut off too early for it.
            for square in [1.0, 2.25, 4.0] + ([9.0, 25.0] if servers > 1 else []):
                first = 0.5 * (1 + math.sqrt((square - 1) / (square + 1)))
                add(square, phases(servers, utilisation, square, first, (2 * first, 2 * (1 - first)), 0.0))
    return rows


def group_commit():
    """Batches: without a bound and a cost per call by renewal in closed form, else by the chain of their ends."""
    rows = []
    for arrival, per_batch in [(100, "0.001"), (1000, "0.001"), (50000, "0.0001"), (200000, "0.001")]:
        rate, length = Decimal(arrival), Decimal(per_batch)
        none = (-rate * length).exp()
        busy = length / (length + none / rate)
        rows.append({"arrival_per_s": arrival, "per_batch_s": float(length), "per_call_s": 0.0, "batch_max": None,
                     "mean_response_s": float(length + busy * length / 2), "mean_batch": float(rate * length + none),
                     "utilisation": float(busy)})
    for arrival, per_batch, per_call, largest in [(1000, 0.001, 0.0, 4), (3000, 0.001, 0.0, 4), (800, 0.001, 0.0, 1),
                                                  (5000, 0.001, 0.00005, 16)]:
        size = largest + 160
        lengths = {n: per_batch + per_call * n for n in range(1, largest + 1)}
        chain = [[0.0] * size for _ in range(size)]
        for at_end in range(size):
            waiting = max(at_end, 1)
            batch = min(waiting, largest)
            for come, share in enumerate(poisson(arrival * lengths[batch], size)):
                chain[at_end][min(waiting - batch + come, size - 1)] += share
        shares = stationary(chain)
        busy = idle = served = spent = 0.0
        for at_end, share in enumerate(shares):
            waiting = max(at_end, 1)
            batch = min(waiting, largest)
            length = lengths[batch]
            busy += share * length
            idle += share / arrival if at_end == 0 else 0.0
            served += share * batch
            spent += share * (waiting * length + arrival * length * length / 2)
        rows.append({"arrival_per_s": arrival, "per_batch_s": per_batch, "per_call_s": per_call,
                     "batch_max": largest, "mean_response_s": spent / (busy + idle) / arrival, "mean_batch": served,
                     "utilisation": busy / (busy + idle)})
    return rows


def make():
    return {"erlang": erlang(), "bounded": bounded(), "closed": closed(), "priorities": priorities(),
            "general": general(), "group_commit": group_commit()}


def compare(ours, theirs, tolerance, path=""):
    """Complains of every number that differs by more than the tolerance."""
    if isinstance(ours, dict):
        return sum(compare(ours[key], theirs[key], tolerance, f"{path}.{key}") for key in ours)
    if isinstance(ours, list):
        assert len(ours) == len(theirs), path
        return sum(compare(a, b, tolerance, f"{path}[{i}]") for i, (a, b) in enumerate(zip(ours, theirs)))
    if isinstance(ours, (int, float)) and not isinstance(ours, bool):
        if abs(ours - theirs) > tolerance * max(abs(ours), abs(theirs)):
            sys.exit(f"{path}: {ours} is not {theirs}")
        return 1
    assert ours == theirs, path
    return 0


def package(directory):
    """Compares what pyqueueing says with what is kept."""
    python = Path(directory) / "bin" / "python"
    try:
        subprocess.run([python, "-c", "import pyqueueing"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        try:
            venv.create(directory, with_pip=True, clear=True)
            install = [python, "-m", "pip", "install", "--quiet", "pyqueueing==0.1.1"]
            subprocess.run(install, check=True, capture_output=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"not compared with pyqueueing, which cannot be installed here: {error}", file=sys.stderr)
            sys.exit(75)
    sys.exit(subprocess.run([python, __file__, "--inside"]).returncode)


def inside():
    from pyqueueing import MG1, MMC, ErlangB, MMcK

    kept = json.loads(VALUES.read_text())
    checked = 0
    for row in kept["erlang"]:
        if row["servers"] > 200:
            continue
        rate = 1 / row["service_s"]
        model = MMC(arrival_rate=row["arrival_per_s"], service_rate=rate, servers=row["servers"])
        checked += compare([model.prob_wait(), model.mean_wait(), model.mean_queue_length()],
                           [row["erlang_c"], row["mean_wait_s"], row["mean_queue_length"]], 1e-9, "M/M/c")
        lost = ErlangB(arrival_rate=row["arrival_per_s"], service_rate=rate, servers=row["servers"])
        checked += compare([lost.prob_block()], [row["erlang_b"]], 1e-9, "Erlang B")
    for row in kept["bounded"]:
        if row["room"] == row["servers"]:
            continue
        model = MMcK(arrival_rate=row["arrival_per_s"], service_rate=1 / row["service_s"], servers=row["servers"],
                     capacity=row["room"])
        checked += compare([model.mean_queue_length(), model.prob_block()],
                           [row["mean_queue_length"], row["probability_of_refusal"]], 1e-9, "M/M/c/K")
    for row in kept["general"]:
        if row["servers"] == 1:
            model = MG1(arrival_rate=row["utilisation"], service_rate=1.0, service_var=row["service_cv_squared"])
            checked += compare([model.mean_wait()], [row["mean_wait_in_services"]], 1e-6, "M/G/1")
    print(f"{checked} values agree with pyqueueing")


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        print(f"{compare(make(), json.loads(VALUES.read_text()), 1e-12)} values are as kept")
    elif sys.argv[1:2] == ["--package"] and len(sys.argv) == 3:
        package(sys.argv[2])
    elif sys.argv[1:] == ["--inside"]:
        inside()
    elif not sys.argv[1:]:
        VALUES.write_text(json.dumps(make(), indent=1) + "\n")
    else:
        sys.exit(__doc__)
