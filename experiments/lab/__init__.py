"""What the experiments share: data, network, arms, runner, statistics and publication."""
