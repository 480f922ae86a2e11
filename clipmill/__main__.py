"""Run the command line: `python -m clipmill`."""

from clipmill.pipelines.cli.main import run

if __name__ == "__main__":
    run()
