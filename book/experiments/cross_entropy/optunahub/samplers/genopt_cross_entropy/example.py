"""Two parameters, one of them whole, found in forty trials."""

import optuna
import optunahub


def objective(trial: optuna.Trial) -> float:
    """Least at a rate of 0.01 and four layers."""
    rate = trial.suggest_float("rate", 1e-4, 1, log=True)
    layers = trial.suggest_int("layers", 1, 8)
    return abs(rate - 0.01) + (layers - 4) ** 2


if __name__ == "__main__":
    module = optunahub.load_module("samplers/genopt_cross_entropy")
    study = optuna.create_study(sampler=module.CrossEntropySampler(method="plus", seed=1))
    study.optimize(objective, n_trials=40)
    print(study.best_params)
